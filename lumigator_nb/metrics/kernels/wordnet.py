"""Synonyms of English words from WordNet 3.0's database files, equal to those that NLTK finds.

WordNet's documentation describes the format in wndb(5WN) and the rules for base forms in morphy(7WN). NLTK's own reader
builds an object for each synset and lemma, which makes METEOR slower (benchmarks/scoring.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

from lumigator_nb.errors import ConfigurationError

VERSION = "3.0"
# Where the packages of Debian and Ubuntu install the database files.
SYSTEM_FOLDERS = (Path("/usr/share/wordnet"),)

# NLTK's rules: the ending of an inflected form, and that of its base form. There are none for adverbs.
_ENDINGS: dict[str, tuple[tuple[str, str], ...]] = {
    "noun": (
        ("s", ""),
        ("ses", "s"),
        ("ves", "f"),
        ("xes", "x"),
        ("zes", "z"),
        ("ches", "ch"),
        ("shes", "sh"),
        ("men", "man"),
        ("ies", "y"),
    ),
    "verb": (("s", ""), ("ies", "y"), ("es", "e"), ("es", ""), ("ed", "e"), ("ed", ""), ("ing", "e"), ("ing", "")),
    "adj": (("er", ""), ("est", ""), ("er", "e"), ("est", "e")),
    "adv": (),
}
# A restriction on the use of an adjective, such as "(p)", after its name.
_USE = re.compile(r"\([^()]*\)$")

Read = Callable[[str], bytes]


def find() -> Read:
    """Return a function that reads a database file by its name, from the operating system or NLTK's data.

    Raises:
        ConfigurationError: WordNet is not installed, or only in another version.
    """
    folders: list[Read] = [lambda name, folder=folder: (folder / name).read_bytes() for folder in SYSTEM_FOLDERS]  # type: ignore[misc]
    # Last, as it imports all of NLTK; the files are the same.
    for read in [*folders, _read_nltk_data]:
        # The license at the top of each file names the version; the adverbs' file is the smallest.
        try:
            if f"WordNet {VERSION} Copyright".encode() in read("data.adv")[:2000]:
                return read
        except (LookupError, OSError):
            continue
    raise ConfigurationError(
        f"WordNet {VERSION} is not installed",
        "install it with: python -m nltk.downloader wordnet punkt_tab, or on Debian and Ubuntu: "
        "apt-get install wordnet-base",
    )


def _read_nltk_data(name: str) -> bytes:
    from nltk.data import find as find_data

    return bytes(find_data(f"corpora/wordnet/{name}").open().read())


class WordNet:
    """Synonyms of English words.

    Args:
        read: returns a database file by its name; see :func:`find`.
    """

    def __init__(self, read: Read) -> None:
        self._parts = [_Part(read, name, endings) for name, endings in _ENDINGS.items()]
        self._names: dict[str, str] = {}
        # Bounded, as texts hold any number of words.
        self.synonyms = lru_cache(maxsize=32_768)(self._synonyms)

    def _synonyms(self, word: str) -> frozenset[str]:
        """Return the names in all synsets of a lower-case word's base forms that are one word in lower case."""
        if not word.isascii():
            return frozenset()
        # setdefault: words share their synonyms, and so the strings.
        return frozenset(
            self._names.setdefault(name, name)
            for part in self._parts
            for name in part.names(word)
            if "_" not in name and name == name.lower()
        )


class _Part:
    """The database files of one part of speech."""

    def __init__(self, read: Read, name: str, endings: tuple[tuple[str, str], ...]) -> None:
        # Lines that begin with a space are the license.
        index = [line for line in read(f"index.{name}").decode("ascii").splitlines() if not line.startswith(" ")]
        self._index = {line.partition(" ")[0]: line for line in index}
        exceptions = [line.split() for line in read(f"{name}.exc").decode("ascii").splitlines()]
        self._exceptions = {form: bases for form, *bases in exceptions}
        self._data = read(f"data.{name}")
        self._endings = endings

    def names(self, word: str) -> Iterator[str]:
        """Yield the names in all synsets of a word's base forms, with repetitions."""
        forms = self._exceptions.get(word)
        if forms is None:
            forms = [word[: -len(old)] + new for old, new in self._endings if word.endswith(old)]
        for form in dict.fromkeys([word, *forms]):
            if form not in self._index:
                continue
            fields = self._index[form].split()
            # The line ends with the synsets, whose number is its third field: byte offsets into the data file.
            for offset in map(int, fields[-int(fields[2]) :]):
                synset = self._data[offset : self._data.index(b"|", offset)].decode("ascii").split()
                # The fourth field is the number of names, in hexadecimal; each is followed by another number.
                for name in synset[4 : 4 + 2 * int(synset[3], 16) : 2]:
                    yield _USE.sub("", name)
