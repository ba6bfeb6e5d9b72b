"""Pairs of texts as varied as a data scientist's: for tests that compare a metric with its reference package."""

from __future__ import annotations

import random

_ENGLISH = """
the a of to in and that it was for on with customer order ticket refund delivery Monday invoice agreed waiting running
runs ran quickly won't it's o'clock e.g. U.S. 3.50 1,000 50% $20 (maybe) "quoted" -- half-done no. 7 Mr. Smith's dogs'
cannot gonna 'tis
"""
_GERMAN = "der die das Zug fährt früh Müller für 3,50 € über Straße groß Überraschung können würde nicht"
ENGLISH, GERMAN = _ENGLISH.split(), _GERMAN.split()
JAPANESE = ["会議", "は", "三時", "に", "始まり", "ます", "。", "東京", "、", "資料", "を", "送る"]
OTHER = ["🙂", "é", "naïve", "Привет", "мир", "مرحبا", "\u00a0", "\u200b", "İstanbul", "ﬁn", "K", "ß", "½", "…", "“so”"]
LISTS = (ENGLISH, ENGLISH, ENGLISH, GERMAN, JAPANESE, ENGLISH + OTHER)


def pairs(n: int, seed: int = 0, longest: int = 40) -> list[tuple[str, str]]:
    """Return n pairs of prediction and ground truth: empty, repeated, alike, unlike, of one line and of several."""
    chosen = random.Random(seed)
    return [_pair(chosen, longest) for _ in range(n)]


def _pair(chosen: random.Random, longest: int) -> tuple[str, str]:
    words = chosen.choice(LISTS)
    truth = _text(chosen, words, chosen.choice([0, 1, 3, longest // 2, longest]))
    kind = chosen.random()
    if kind < 0.05:
        return truth, truth
    if kind < 0.1:
        return "", truth
    if kind < 0.15:
        return " ".join([chosen.choice(words)] * chosen.randint(1, longest)), truth
    if kind < 0.4:
        return _text(chosen, words, chosen.randint(0, longest)), truth
    kept = [each if chosen.random() < 0.7 else chosen.choice(words) for each in truth.split(" ")]
    if kind < 0.6:
        chosen.shuffle(kept)
    return " ".join(kept), truth


def _text(chosen: random.Random, words: list[str], most: int) -> str:
    ends = [" ", " ", " ", " ", " ", " ", ". ", ", ", "? ", ".\n", "\n", "\n\n"]
    return "".join(chosen.choice(words) + chosen.choice(ends) for _ in range(most))
