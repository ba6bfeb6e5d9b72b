"""A judge with planted faults, so that what a passport finds can be compared with what is there.

Every decision follows from a hash of what was asked, so that the same question always gets the same verdict.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

# Answers to a pointwise question that are longer count as long.
LONG = 60
# How sure the judge is of the digit that it writes; the rest goes to a neighbour.
SURE = 0.7
WORST, BEST = 1, 5

_FIRST, _SECOND, _NEITHER = 1, 2, 0


@dataclass(frozen=True, slots=True)
class Judge:
    """How the server judges; plain JSON values.

    Attributes:
        position: share of pairs of which it prefers what stands first.
        length: share of the rest of which it prefers the longer answer, in characters; for scores, the share that gets
            the best score where the answer is long, and the worst where it is short.
        malformed: share of answers that hold no verdict: cut-off JSON, prose without a number, an empty object.
        tie: share of what is left that is called equal.
        noise: share of questions that are judged anew each time they are asked, quality included: what two such
            verdicts have in common is chance.
    """

    position: float = 0.0
    length: float = 0.0
    malformed: float = 0.0
    tie: float = 0.0
    noise: float = 0.0


_asked = count()


def verdict(judge: Judge, turns: Sequence[tuple[str, str]]) -> str:
    """Return the judge's answer to a chat.

    Args:
        turns: role and text of each. The texts to be judged stand between tags in one of the user's turns:
            ``<answer>``, or ``<answer_1>`` and ``<answer_2>``.
    """
    asked = "\n".join(text for role, text in turns if role != "system")
    mood = f"\0{next(_asked)}" if _chance("noise", asked) < judge.noise else ""
    asked += mood
    if _chance("malformed", asked) < judge.malformed:
        return _malformed(asked)
    answers = _judged([text for role, text in turns if role == "user"])
    if len(answers) == 2:
        return json.dumps({"reason": "So it is.", "preference": _preference(judge, asked, mood, *answers)})
    return json.dumps({"reason": "So it is.", "score": _score(judge, asked, mood, *answers)})


def _judged(users: Sequence[str]) -> list[str]:
    """Return the one or two texts of the latest turn that holds any: a retry does not repeat them."""
    for text in reversed(users):
        if len(pair := _between(text, r"answer_[12]")) == 2:
            return pair
        if single := _between(text, "answer"):
            return single[:1]
    return [""]


def logprobs(text: str, alternatives: int) -> dict[str, Any]:
    """Return OpenAI's `logprobs` of an answer: digits have a neighbour that was nearly as likely, all else is sure."""
    return {"content": [_token(token, alternatives) for token in re.findall(r"\d|\D+", text)], "refusal": None}


def _token(text: str, alternatives: int) -> dict[str, Any]:
    likely = [(text, 0.0)]
    if text.isdigit():
        other = int(text) + 1 if int(text) < BEST else int(text) - 1
        likely = [(text, math.log(SURE)), (str(other), math.log(1 - SURE))]
    shown = [{"token": token, "logprob": value, "bytes": None} for token, value in likely]
    return {**shown[0], "top_logprobs": shown[:alternatives]}


def _preference(judge: Judge, asked: str, mood: str, first: str, second: str) -> int:
    if _chance("position", asked) < judge.position:
        return _FIRST
    if _chance("length", asked) < judge.length and len(first) != len(second):
        return _FIRST if len(first) > len(second) else _SECOND
    # What the answers deserve, and whether they deserve the same, does not depend on their order.
    if first == second or _chance("tie", *sorted([first + mood, second + mood])) < judge.tie:
        return _NEITHER
    return _FIRST if _chance("quality", first + mood) > _chance("quality", second + mood) else _SECOND


def _score(judge: Judge, asked: str, mood: str, answer: str) -> int:
    if _chance("length", asked) < judge.length:
        return BEST if len(answer) > LONG else WORST
    return WORST + int(_chance("quality", answer + mood) * (BEST - WORST + 1))


def _malformed(asked: str) -> str:
    kinds = ('{"reason": "It is', "Both have their merits, and it is hard to say.", "{}")
    return kinds[int(_chance("kind", asked) * len(kinds))]


def _between(text: str, tag: str) -> list[str]:
    return [match[2].strip() for match in re.finditer(rf"<({tag})>(.*?)</\1>", text, re.DOTALL)]


def _chance(*parts: str) -> float:
    """Return a number in [0, 1) that is drawn evenly, and always the same for the same texts."""
    digest = hashlib.sha256("\0".join(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
