"""Labels in answers: what label a text names, however a model words it.

An answer is read as one of the labels, or as none with the reason. It is never guessed: a label that is misspelt, or
one of several that are named, is no label.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

# Words that models put before the label, and keys of JSON objects that hold it.
_KEYS = ("label", "labels", "class", "classes", "category", "categories", "answer", "classification", "tags")
_ANNOUNCED = re.compile(rf"\b(?:{'|'.join(_KEYS)})\b[\"'*_`\s]*(?:is|are|:|=|-)[\"'*_`\s]*", re.IGNORECASE)
# Before a label, these say that it is not meant. English only.
_NEGATED = re.compile(r"(?:\bnot|\bno|n[’']t|\bnever|\bneither|\bnor|\bwithout)\s+(?:an?\s+|the\s+|about\s+|in\s+)?$")
_FENCE = re.compile(r"```[\w+-]*\s*(.*?)\s*```", re.DOTALL)
_SEPARATORS = re.compile(r"[\n,;|]+|^\s*[-*•]\s+", re.MULTILINE)
_NONE = frozenset({"none", "no label", "no labels", "nothing", "n/a", "[]"})
_SHOWN = 60


class UnreadableError(ValueError):
    """An answer names no label, or not as many as it should; the message is the reason."""


class LabelReader:
    """Reads labels from texts.

    Args:
        labels: the labels, distinct also without regard to case and punctuation.
        multi_label: whether a text may have any number of labels, none included, rather than exactly one.
    """

    def __init__(self, labels: Sequence[str], *, multi_label: bool = False) -> None:
        self._labels = tuple(labels)
        self._multi = multi_label
        self._plain = {plain(label): number for number, label in enumerate(labels)}

    def read(self, text: str) -> tuple[int, ...]:
        """Return the numbers of the labels that an answer names: one, or any number with `multi_label`.

        A JSON value, the label alone (in any case, with punctuation or Markdown around it), and the label after
        "Label:" and the like are taken first; otherwise labels that stand as whole words in the text and are not
        negated.

        Raises:
            UnreadableError: it does not; the message says why.
        """
        stripped = text.strip()
        if fenced := _FENCE.fullmatch(stripped):
            stripped = fenced[1]
        if not stripped:
            raise UnreadableError("the answer is empty")
        values = _values(stripped)
        numbers = self._stated(values)
        if numbers is None and values is not None and values != [stripped]:
            # JSON that holds labels: what else is in it does not count.
            stripped = "\n".join(values)
            strays = [value for value in values if self._stated([value]) is None]
            if self._multi and strays:
                raise UnreadableError(f"{shown(strays[0])!r} is no label")
        if numbers is None:
            announced = [stripped[match.end() :].partition("\n")[0] for match in _ANNOUNCED.finditer(stripped)]
            # What is announced last counts: reasoning may come first.
            numbers = self._stated([announced[-1]]) if announced else None
        if numbers is None:
            numbers = self.named(stripped)
        return self._checked(numbers, stripped)

    def stated(self, text: str) -> tuple[int, ...]:
        """Return the numbers of the labels that a text of the ground truth consists of.

        Raises:
            UnreadableError: something in it is no label.
        """
        numbers = self._stated(_values(text.strip()))
        if numbers is None or not (numbers or self._multi):
            raise UnreadableError(f"{shown(text)!r} is no label")
        return tuple(sorted(numbers))

    def named(self, text: str) -> tuple[int, ...]:
        """Return the numbers of the labels that stand in a text as whole words, in the text's order."""
        found: dict[int, None] = {}
        for match in self._words.finditer(text):
            if not _NEGATED.search(text[: match.start()].lower()):
                found.setdefault(self._plain[plain(match[0])], None)
        return tuple(found)

    @cached_property
    def _words(self) -> re.Pattern[str]:
        # The longest first, so that "not spam" is not read as "spam".
        ordered = sorted(self._labels, key=len, reverse=True)
        alternatives = "|".join(r"[\W_]+".join(map(re.escape, re.findall(r"[^\W_]+", label))) or re.escape(label)
                                for label in ordered)  # fmt: skip
        return re.compile(rf"(?<![^\W_])(?:{alternatives})(?![^\W_])", re.IGNORECASE)

    def _stated(self, values: Sequence[str] | None) -> tuple[int, ...] | None:
        """Return the numbers of labels that are stated as such; None where a value is no label."""
        if values is None:
            return None
        numbers: dict[int, None] = {}
        for value in values:
            number = self._plain.get(plain(value))
            if number is None and self._multi:
                if value.strip().lower() in _NONE:
                    continue
                parts = [self._plain.get(plain(part)) for part in _SEPARATORS.split(value) if plain(part)]
                if not parts or None in parts:
                    return None
                numbers |= {part: None for part in parts if part is not None}
            elif number is None:
                return None
            else:
                numbers[number] = None
        return tuple(numbers)

    def _checked(self, numbers: tuple[int, ...], text: str) -> tuple[int, ...]:
        if self._multi:
            if not numbers and not self._says_none(text):
                raise UnreadableError(f"names no label: {shown(text)!r}")
            return tuple(sorted(numbers))
        if not numbers:
            raise UnreadableError(f"names no label: {shown(text)!r}")
        if len(numbers) > 1:
            raise UnreadableError(f"names several labels: {', '.join(self._labels[number] for number in numbers)}")
        return numbers

    def _says_none(self, text: str) -> bool:
        values = _values(text)
        return values is not None and all(value.strip().lower().strip(".") in _NONE for value in values)


def plain(text: str) -> str:
    """Return a text without case, punctuation and white space around and between its words."""
    words = re.findall(r"[^\W_]+", text.casefold())
    # A label of signs alone, such as "+", stays as it is.
    return " ".join(words) or text.strip()


def shown(text: str) -> str:
    """Return the beginning of a text, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}…"


def _values(text: str) -> list[str] | None:
    """Return the texts in a JSON value, or the text alone; None for JSON that holds something else."""
    if not text.startswith(("{", "[", '"')):
        return [text]
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        import json_repair

        try:
            value = json_repair.loads(text)
        except (ValueError, RecursionError):
            return None
    if isinstance(value, Mapping):
        keys = {str(key).strip().casefold(): item for key, item in value.items()}
        held = [keys[key] for key in _KEYS if key in keys]
        value = held[0] if held else next(iter(keys.values()), None) if len(keys) == 1 else None
    return _texts(value)


def _texts(value: Any) -> list[str] | None:
    if isinstance(value, str):
        return [value]
    if isinstance(value, (int, float, bool)):
        return [str(value)]
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    return None
