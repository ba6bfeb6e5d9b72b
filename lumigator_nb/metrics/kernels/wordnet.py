"""Synonyms of English words from WordNet 3.0's database files, as NLTK finds them.

The format is described in wndb(5WN), the rules for base forms in morphy(7WN) of WordNet's documentation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

from lumigator_nb.errors import ConfigurationError

VERSION = "3.0"
# Where packages of operating systems put the database files.
SYSTEM_FOLDERS = (Path("/usr/share/wordnet"),)

# NLTK's rules: ending of an inflected form, ending of its base form. It knows none for adverbs.
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
# How an adjective may be used, where that is restricted: "(p)" after its name.
_USE = re.compile(r"\([^()]*\)$")

Read = Callable[[str], bytes]


def find() -> Read:
    """Return what reads a database file by its name: of the operating system, or of NLTK's data, packed or not.

    Raises:
        ConfigurationError: there is none, or only another version.
    """
    folders: list[Read] = [lambda name, folder=folder: (folder / name).read_bytes() for folder in SYSTEM_FOLDERS]  # type: ignore[misc]
    # Last, as it takes all of NLTK; the files are the same.
    folders.append(_read_nltk_data)
    # The license at the head of each file names the version; that of the adverbs is the smallest.
    for read in folders:
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
        read: gives a database file by its name; see :func:`find`.
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
        # Words share their synonyms, and so the strings.
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
        for form in self._base_forms(word):
            fields = self._index[form].split()
            for offset in fields[-int(fields[2]) :]:
                yield from self._synset(int(offset))

    def _base_forms(self, word: str) -> list[str]:
        forms = self._exceptions.get(word)
        if forms is None:
            forms = [word[: -len(old)] + new for old, new in self._endings if word.endswith(old)]
        return [form for form in dict.fromkeys([word, *forms]) if form in self._index]

    def _synset(self, offset: int) -> Iterator[str]:
        fields = self._data[offset : self._data.index(b"|", offset)].decode("ascii").split()
        count = int(fields[3], 16)
        return (_USE.sub("", name) for name in fields[4 : 4 + 2 * count : 2])
