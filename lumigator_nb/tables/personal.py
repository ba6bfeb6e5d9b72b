"""Count probable personal data in texts on upload, without showing it.

False alarms cost trust, so a number counts as a phone number only if it is written as one: with a plus, in the digit
groups of some country, or after a word such as "phone". Order numbers, dates and prices do not count.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lumigator_nb.specs import is_ground_truth

_SHOWN_ROWS = 3
_Places = np.ndarray[Any, np.dtype[np.intp]]
# What may surround a match, so that it is not part of a longer number or word, such as an order number, a version or a
# bank account. Consumed characters in place of look-around, which RE2 does not have.
_BEFORE, _AFTER = r"(?:^|(?:^|\D)[^\w+#./:@=-])", r"(?:$|[^\w/@=-])"
_EMAIL = r"[A-Za-z0-9._%+'-]*[A-Za-z0-9_%+-]@(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.)+[A-Za-z]{2,}"
_PHONES = (
    # +1 (555) 123-4567, +1.555.123.4567
    r"\+1[ -]?\(?[2-9]\d{2}\)?[ .-]?\d{3}[ .-]?\d{4}|\+1\.[2-9]\d{2}\.\d{3}\.\d{4}",
    # +49 30 1234567, +44 (0)20 7946 0958
    r"\+[2-9]\d{0,2}[ /-]?(?:\(\d{1,5}\)[ /-]?)?[1-9](?:[ /\x{a0}-]?\d){5,12}",
    # 0049 30 1234567; without a space it may be any number that is padded with zeros
    r"00[1-9]\d{0,2}[ /-](?:\(0\))?\d{2,5}(?:[ /-]?\d){4,9}",
    # (212) 555-0123, 212-555-0123, 1-800-555-0199, and 555-123-4567, which does not exist but is common in texts
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
# A simpler pattern for RE2, so that it stays fast in texts full of digits. Its matches are then checked with _CARD.
_CARDISH = r"\b[2-6]\d{3}[ -]?\d{4,6}[ -]?\d{4}"
# A single quick search that excludes most texts: without "@" or seven digits, none of the patterns matches.
_ANY = r"@|\d(?:[ ()./\x{a0}-]{0,3}\d){6}"
_CARD_FOUND = re.compile(rf"(?<![\w+#./:=-])(?<!\d[ -])({_CARD})(?![\w/=-])(?! \d)")
# First digits and lengths of the issuers' numbers: Visa, Mastercard (two ranges), American Express, Discover.
_ISSUERS = (
    (re.compile(r"4"), (13, 16, 19)),
    (re.compile(r"5[1-5]|2(?:22[1-9]|2[3-9]|[3-6]|7[01]|720)"), (16,)),
    (re.compile(r"3[47]"), (15,)),
    (re.compile(r"6(?:011|5|4[4-9])"), (16, 19)),
)


@dataclass
class _Count:
    """Number of examples with one kind of personal data, and the first of their rows (from 1)."""

    n: int = 0
    rows: list[int] = field(default_factory=list)

    def add(self, places: _Places, first_row: int) -> None:
        self.n += len(places)
        self.rows += [first_row + int(place) for place in places[: _SHOWN_ROWS - len(self.rows)]]


class PersonalData:
    """Counts rows with e-mail addresses, phone numbers or card numbers in example or ground truth, piece by piece."""

    def __init__(self) -> None:
        self._counts = {"an e-mail address": _Count(), "a phone number": _Count(), "a card number": _Count()}
        self._next_row = 1

    def add(self, table: pa.Table) -> None:
        """Add the next rows."""
        names = [name for name in table.column_names if name == "example" or is_ground_truth(name)]
        for batch in table.select(names).to_batches():
            by_column = [_search(column) for column in batch.columns]
            for total, places in zip(self._counts.values(), zip(*by_column, strict=True), strict=True):
                # A row counts once, even if several of its columns match.
                total.add(np.unique(np.concatenate(places)), self._next_row)
            self._next_row += len(batch)

    @property
    def notes(self) -> tuple[str, ...]:
        """Counts and first rows, as a message for the user; never the data itself."""
        parts = []
        for kind, total in self._counts.items():
            if total.n:
                examples = "1 example has" if total.n == 1 else f"{total.n:,} examples have"
                rows = ", ".join(f"{row:,}" for row in total.rows) + (", …" if total.n > len(total.rows) else "")
                parts.append(f"{examples} {kind} ({'row' if total.n == 1 else 'rows'} {rows})")
        if not parts:
            return ()
        return (f"this may be personal data, check before you send it to a provider: {'; '.join(parts)}",)


def _search(texts: pa.StringArray) -> tuple[_Places, _Places, _Places]:
    """Return the indices of texts with e-mail addresses, phone numbers and card numbers."""
    places = np.flatnonzero(_matches(texts, _ANY))
    likely = texts.take(pa.array(places))
    mails, phones, candidates = (places[_matches(likely, pattern)] for pattern in (_EMAIL, _PHONE, _CARDISH))
    has_card = [
        any(is_card(match[1]) for match in _CARD_FOUND.finditer(texts[int(place)].as_py())) for place in candidates
    ]
    return mails, phones, candidates[np.array(has_card, bool)]


def _matches(texts: pa.StringArray, pattern: str) -> np.ndarray[Any, np.dtype[np.bool_]]:
    matches: np.ndarray[Any, np.dtype[np.bool_]] = (
        pc.match_substring_regex(texts, pattern).fill_null(False).to_numpy(zero_copy_only=False)
    )
    return matches


def is_card(text: str) -> bool:
    """Return whether a text is a payment card's number by issuer, length and checksum; blanks and hyphens are ignored.

    The checksum is Luhn's (ISO/IEC 7812-1, annex B): every second digit from the right counts twice, as the sum of its
    digits, and the total is a multiple of 10.
    """
    digits = [int(character) for character in text if character.isdigit()]
    number = "".join(map(str, digits))
    if not any(begin.match(number) and len(number) in lengths for begin, lengths in _ISSUERS):
        return False
    doubled = (sum(divmod(2 * digit, 10)) for digit in digits[-2::-2])
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0
