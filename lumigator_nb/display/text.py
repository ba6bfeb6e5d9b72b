"""Format plain values as short texts."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

MISSING = "–"
_MOST_NAMES = 12
# Control characters move a terminal's cursor, and direction marks reorder what a reader sees: neither is text.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def plain(value: object) -> str:
    """Return `value` as printable text: with line feeds as line ends, and � in place of control characters."""
    return _UNPRINTABLE.sub("�", str(value).replace("\r\n", "\n").replace("\r", "\n"))


def one_line(value: object, limit: int = 200) -> str:
    """Return the text in one line of at most `limit` characters."""
    text = " ".join(plain(value).split())
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def first_line(value: object, limit: int = 200) -> str:
    """Return the first line that is not blank, in at most `limit` characters."""
    return one_line(next((line for line in plain(value).splitlines() if line.strip()), ""), limit)


def elide(value: object, limit: int) -> str:
    """Shorten a text in the middle: names of models often differ only at their ends."""
    text = one_line(value, 10_000)
    if len(text) <= limit:
        return text
    # Two thirds for the end, with the size and the version of a model.
    tail = (limit - 1) * 2 // 3
    return f"{text[: limit - 1 - tail]}…{text[-tail:]}"


def reason(error: object) -> str:
    """Return an error with its hint on a single line."""
    return one_line(str(error).replace("\nHint: ", "; "), 500)


def skipped(reasons: Mapping[str, str]) -> list[str]:
    """Return a line for each metric that could not be computed, from titles and reasons."""
    return [f"metric {title} was skipped: {reason(error)}" for title, error in reasons.items()]


def joined(words: Sequence[str]) -> str:
    """Return ``a, b and c``."""
    return ", ".join(words[:-1]) + " and " + words[-1] if len(words) > 1 else "".join(words)


def listed(names: Sequence[str]) -> str:
    """Return at most twelve names as ``a, b and c``, with the number of further names."""
    first = [one_line(name, 60) for name in names[:_MOST_NAMES]]
    more = [f"{len(names) - _MOST_NAMES:,} more"] if len(names) > _MOST_NAMES else []
    return joined([*first, *more])


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows of cells as aligned, indented lines."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "  " + "  ".join(f"{cell or MISSING:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def aligned(title: str, facts: Sequence[tuple[str, str]]) -> str:
    """Return a title and facts (pairs of label and value) as indented lines, with the values aligned."""
    width = max((len(label) for label, _ in facts), default=0)
    return "\n".join([title, *(f"  {label:<{width}}  {value}" for label, value in facts)])


def count(number: int, noun: str) -> str:
    """Return the number with its noun: ``1 example``, ``1,200 examples``."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def percent(share: float) -> str:
    """Return a share in [0, 1] as a percentage: ``95%``, ``99.9%``."""
    return f"{100 * share:.6g}%"


def size(n_bytes: int) -> str:
    """Return a size in decimal units: ``12.3 kB``."""
    if n_bytes < 1000:
        return count(n_bytes, "byte")
    power = min(int(math.log10(n_bytes) // 3), 4)
    return f"{n_bytes / 1000**power:.3g} {' kMGT'[power]}B"


def duration(seconds: float) -> str:
    """Return a time span in at most two units: ``8 s``, ``1 min 05 s``, ``2 h 10 min``."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def moment(time: datetime | None) -> str:
    """Return a point in time in the local time zone, to the minute."""
    return MISSING if time is None else time.astimezone().strftime("%Y-%m-%d %H:%M")


def settings(values: Iterable[tuple[str, object]]) -> str:
    """Return ``name=value`` pairs on a single line."""
    return ", ".join(f"{name}={value!r}" for name, value in values)


def magnitude(number: int | None) -> str:
    """Return a number with its magnitude: 135M, 1.7B, 128k; a dash if it is unknown."""
    if number is None:
        return MISSING
    for size, unit in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return str(number)
