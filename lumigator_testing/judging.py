"""A simulated judge with known biases, to test whether a judge report finds them.

Every decision derives from a hash of the question, so that the same question always gets the same verdict.
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

# An answer with more characters counts as long.
LONG = 60
# Probability of the digit that the judge writes. A neighbouring digit has the rest.
SURE = 0.7
WORST, BEST = 1, 5

_FIRST, _SECOND, _NEITHER = 1, 2, 0


@dataclass(frozen=True, slots=True)
class Judge:
    """The biases of the judge, as plain JSON values.

    Attributes:
        position: share of pairs for which it prefers the first answer (position bias).
        length: share of the others for which it prefers the longer answer (length bias). For scores: the share that
            gets the best score if the answer is long, and the worst if it is short.
        malformed: share of responses without a verdict: incomplete JSON, prose without a number, an empty object.
        tie: share of the remaining pairs that it calls equal.
        noise: share of questions that it decides at random each time, so that two verdicts agree only by chance.
    """

    position: float = 0.0
    length: float = 0.0
    malformed: float = 0.0
    tie: float = 0.0
    noise: float = 0.0


_question_number = count()


def verdict(judge: Judge, turns: Sequence[tuple[str, str]]) -> str:
    """Return the judge's response to a chat.

    Args:
        judge: its biases.
        turns: role and text of each turn. The answers to judge are between tags in a turn of the user:
            ``<answer>``, or ``<answer_1>`` and ``<answer_2>``.
    """
    question = "\n".join(text for role, text in turns if role != "system")
    # A different text for each call makes all hashes, and so all decisions, different.
    noise = f"\0{next(_question_number)}" if _chance("noise", question) < judge.noise else ""
    question += noise
    if _chance("malformed", question) < judge.malformed:
        kinds = ('{"reason": "It is', "Both have their merits, and it is hard to say.", "{}")
        return kinds[int(_chance("kind", question) * len(kinds))]
    answers = _judged([text for role, text in turns if role == "user"])
    if len(answers) == 2:
        return json.dumps({"reason": "So it is.", "preference": _preference(judge, question, noise, *answers)})
    score = WORST + int(_chance("quality", answers[0] + noise) * (BEST - WORST + 1))
    if _chance("length", question) < judge.length:
        score = BEST if len(answers[0]) > LONG else WORST
    return json.dumps({"reason": "So it is.", "score": score})


def _judged(users: Sequence[str]) -> list[str]:
    """Return the one or two answers of the latest turn that contains any. (A retry does not repeat them.)"""
    for text in reversed(users):
        if len(pair := _between(text, r"answer_[12]")) == 2:
            return pair
        if single := _between(text, "answer"):
            return single[:1]
    return [""]


def logprobs(text: str, alternatives: int) -> dict[str, Any]:
    """Return OpenAI's `logprobs` of a response: a digit has a neighbour as alternative, other tokens are certain."""
    return {"content": [_token(token, alternatives) for token in re.findall(r"\d|\D+", text)], "refusal": None}


def _token(text: str, alternatives: int) -> dict[str, Any]:
    likely = [(text, 0.0)]
    if text.isdigit():
        other = int(text) + 1 if int(text) < BEST else int(text) - 1
        likely = [(text, math.log(SURE)), (str(other), math.log(1 - SURE))]
    tokens = [{"token": token, "logprob": value, "bytes": None} for token, value in likely]
    return {**tokens[0], "top_logprobs": tokens[:alternatives]}


def _preference(judge: Judge, question: str, noise: str, first: str, second: str) -> int:
    if _chance("position", question) < judge.position:
        return _FIRST
    if _chance("length", question) < judge.length and len(first) != len(second):
        return _FIRST if len(first) > len(second) else _SECOND
    # Quality and ties do not depend on the order of the answers.
    if first == second or _chance("tie", *sorted([first + noise, second + noise])) < judge.tie:
        return _NEITHER
    return _FIRST if _chance("quality", first + noise) > _chance("quality", second + noise) else _SECOND


def _between(text: str, tag: str) -> list[str]:
    return [match[2].strip() for match in re.finditer(rf"<({tag})>(.*?)</\1>", text, re.DOTALL)]


def _chance(*parts: str) -> float:
    """Return a uniform number in [0, 1), always the same for the same texts."""
    digest = hashlib.sha256("\0".join(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
