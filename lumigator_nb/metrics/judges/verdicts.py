"""Read the number and the reason out of a judge's answer, also out of malformed JSON or prose."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lumigator_nb.models import Prediction

_SHOWN = 120
# The expected number counts only where the allowed numbers have most of the probability.
_MASS = 0.5


@dataclass(frozen=True)
class Verdict:
    """A number, and the reason for it.

    Attributes:
        value: as the judge wrote it.
        weighted: the mean of all numbers that it might have written, by their probabilities, where those are known
            (G-Eval, Liu et al. 2023, equation 1); else the same as `value`.
    """

    value: float
    weighted: float
    reason: str | None


def read(prediction: Prediction, field: str, allowed: Sequence[int]) -> Verdict | None:
    """Return the verdict in a judge's answer; None where no allowed number is in it.

    Args:
        field: of the JSON object that holds the number.
        allowed: the whole numbers that are allowed, ascending; fractions between them are taken too.
    """
    text = prediction.text or ""
    fields = _object(text)
    value = _number(fields.get(field))
    if value is None:
        # A number that prose names: "Score: 4", "score is 4/5", or nothing but the number.
        matches = re.findall(rf"\b{field}\b[\"'*\s]*(?:is|of|:|=|-)?[\"'*\s]*(\d+(?:\.\d+)?)", text, re.IGNORECASE)
        value = float(matches[-1]) if matches else _number(text)
    if value is None or not allowed[0] <= value <= allowed[-1]:
        return None
    reason = str(fields.get("reason") or "").strip()
    return Verdict(value, _weighted(value, prediction.numbers, allowed), reason or None)


def shown(prediction: Prediction) -> str:
    """Return the beginning of an answer that could not be read, for an error."""
    text = " ".join((prediction.text or "").split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _object(text: str) -> dict[str, Any]:
    """Return the JSON object in an answer, also one in a code block, cut off, or with a missing quote; else empty."""
    import json_repair

    begin = text.find("{")
    if begin < 0:
        return {}
    try:
        value = json_repair.loads(text[begin:])
    except (ValueError, RecursionError):
        return {}
    candidates = value if isinstance(value, list) else [value]
    objects = [candidate for candidate in candidates if isinstance(candidate, Mapping)]
    return {str(key).strip().lower(): value for key, value in objects[0].items()} if objects else {}


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, (int, float)):
        return float(value)
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:/\s*\d+)?\s*", str(value))
    return float(match[1]) if match else None


def _weighted(value: float, numbers: Sequence[Mapping[str, float]] | None, allowed: Sequence[int]) -> float:
    """Return the expected number, where the judge's last number is the verdict and its alternatives are known."""
    if not numbers:
        return value
    last = {int(token): share for token, share in numbers[-1].items() if token.isdecimal() and int(token) in allowed}
    mass = sum(last.values())
    if mass < _MASS or value != int(value) or int(value) not in last:
        return value
    return sum(number * share for number, share in last.items()) / mass
