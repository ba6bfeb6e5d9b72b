"""What looks like personal data in texts: counted on upload, and never shown.

A false alarm costs trust, so a number counts as a phone number only where it is written as one: with a plus, in the
groups of a country that writes them so, or behind a word such as "phone". Digits of order numbers, dates and prices do
not.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lumigator_nb.specs import is_ground_truth

_SHOWN_ROWS = 3
_Places = np.ndarray[Any, np.dtype[np.intp]]
# Not inside a longer number or word, such as an order number, a version or the groups of a bank account.
_BEFORE, _AFTER = r"(?:^|(?:^|\D)[^\w+#./:@=-])", r"(?:$|[^\w/@=-])"
_EMAIL = r"[A-Za-z0-9._%+'-]*[A-Za-z0-9_%+-]@(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.)+[A-Za-z]{2,}"
_PHONES = (
    # +1 (555) 123-4567, +1.555.123.4567
    r"\+1[ -]?\(?[2-9]\d{2}\)?[ .-]?\d{3}[ .-]?\d{4}|\+1\.[2-9]\d{2}\.\d{3}\.\d{4}",
    # +49 30 1234567, +44 (0)20 7946 0958
    r"\+[2-9]\d{0,2}[ /-]?(?:\(\d{1,5}\)[ /-]?)?[1-9](?:[ /\x{a0}-]?\d){5,12}",
    # 0049 30 1234567; without a space it may be any number that is filled with zeros
    r"00[1-9]\d{0,2}[ /-](?:\(0\))?\d{2,5}(?:[ /-]?\d){4,9}",
    # (212) 555-0123, 212-555-0123, 1-800-555-0199, and 555-123-4567, which no exchange has but many texts
    r"(?:1[ .-])?(?:\([2-9]\d{2}\) ?|[2-9]\d{2}[.-])\d{3}[ .-]\d{4}",
    # 06 12 34 56 78
    r"0[1-9](?: \d{2}){4}",
    # 020 7946 0958, 0161 496 0123, 07700 900123
    r"(?:02\d \d{4} \d{4}|01\d{2,3} \d{3} ?\d{3,4}|07\d{3} \d{6})",
    # (030) 123 45 67
    r"\(0\d{1,5}\)[ /-]?\d(?:[ /-]?\d){4,9}",
)
_PHONE_WORDS = r"(?i:tel|telephone|telefon|phone|phone number|mobile|mobil|cell|handy|fax|whatsapp|sms)"
_PHONE = (
    rf"{_BEFORE}(?:{'|'.join(_PHONES)}){_AFTER}"
    rf"|\b{_PHONE_WORDS}\b[.:]?(?: (?:is|no|nr|number|nummer)\b[.:]?)? ?\(?\d(?:[ ()./-]{{0,2}}\d){{6,14}}{_AFTER}"
)
_CARD = r"[2-6]\d{3}(?:[ -]?\d{4}){2}[ -]?\d{1,4}(?:\d{3})?|3[47]\d{2}[ -]?\d{6}[ -]?\d{5}"
# Small, so that RE2 stays fast where texts are full of digits; what it lets through is checked in full.
_CARDISH = r"\b[2-6]\d{3}[ -]?\d{4,6}[ -]?\d{4}"
# One look at each text tells whether a closer one can find anything: most texts have neither.
_ANY = r"@|\d(?:[ ()./\x{a0}-]{0,3}\d){6}"
_CARD_FOUND = re.compile(rf"(?<![\w+#./:=-])(?<!\d[ -])({_CARD})(?![\w/=-])(?! \d)")
# By how a number begins, the lengths that its issuer gives: Visa, Mastercard (two ranges), American Express, Discover.
_ISSUERS = (
    (re.compile(r"4"), (13, 16, 19)),
    (re.compile(r"5[1-5]|2(?:22[1-9]|2[3-9]|[3-6]|7[01]|720)"), (16,)),
    (re.compile(r"3[47]"), (15,)),
    (re.compile(r"6(?:011|5|4[4-9])"), (16, 19)),
)


@dataclass
class _Found:
    """How many examples have something, and the first of them (rows from 1)."""

    n: int = 0
    rows: list[int] = field(default_factory=list)

    def add(self, places: _Places, first_row: int) -> None:
        self.n += len(places)
        self.rows += [first_row + int(place) for place in places[: _SHOWN_ROWS - len(self.rows)]]


class PersonalData:
    """Looks for e-mail addresses, phone numbers and card numbers in examples and ground truths, piece by piece."""

    def __init__(self) -> None:
        self._found = {"an e-mail address": _Found(), "a phone number": _Found(), "a card number": _Found()}
        self._next_row = 1

    def add(self, table: pa.Table) -> None:
        """Look at the next rows."""
        names = [name for name in table.column_names if name == "example" or is_ground_truth(name)]
        for batch in table.select(names).to_batches():
            rows = [_look(column) for column in batch.columns]
            for found, places in zip(self._found.values(), zip(*rows, strict=True), strict=True):
                found.add(np.unique(np.concatenate(places)), self._next_row)
            self._next_row += len(batch)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was found and where first; never the value."""
        seen = [_said(found, what) for what, found in self._found.items() if found.n]
        if not seen:
            return ()
        return (f"this may be personal data, look before you send it to a provider: {'; '.join(seen)}",)


def _said(found: _Found, what: str) -> str:
    examples = "1 example has" if found.n == 1 else f"{found.n:,} examples have"
    rows = ", ".join(f"{row:,}" for row in found.rows)
    place = f"row {rows}" if found.n == 1 else f"rows {rows}{', …' if found.n > len(found.rows) else ''}"
    return f"{examples} {what} ({place})"


def _look(texts: pa.StringArray) -> tuple[_Places, _Places, _Places]:
    """Return where there are e-mail addresses, phone numbers and card numbers."""
    places = np.flatnonzero(_matches(texts, _ANY))
    likely = texts.take(pa.array(places))
    mails, phones, cards = (places[_matches(likely, pattern)] for pattern in (_EMAIL, _PHONE, _CARDISH))
    return mails, phones, cards[[_has_card(texts[int(place)].as_py()) for place in cards]] if len(cards) else cards


def _matches(texts: pa.StringArray, pattern: str) -> np.ndarray[Any, np.dtype[np.bool_]]:
    matches: np.ndarray[Any, np.dtype[np.bool_]] = (
        pc.match_substring_regex(texts, pattern).fill_null(False).to_numpy(zero_copy_only=False)
    )
    return matches


def _has_card(text: str) -> bool:
    return any(is_card(match[1]) for match in _CARD_FOUND.finditer(text))


def is_card(text: str) -> bool:
    """Whether digits, perhaps with blanks or hyphens between, are a card's number: by issuer, length and Luhn's sum."""
    digits = [int(character) for character in text if character.isdigit()]
    number = "".join(map(str, digits))
    if not any(begin.match(number) and len(number) in lengths for begin, lengths in _ISSUERS):
        return False
    return _luhn(digits) % 10 == 0


def _luhn(digits: Sequence[int]) -> int:
    """The sum of ISO/IEC 7812-1, annex B: every second digit from the right counts twice, as the sum of its digits."""
    doubled = (sum(divmod(2 * digit, 10)) for digit in digits[-2::-2])
    return sum(digits[-1::-2]) + sum(doubled)
