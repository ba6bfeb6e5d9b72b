"""Estimates of the number of tokens of a text, without a tokenizer."""

from __future__ import annotations


def about_tokens(text: str) -> int:
    """Return an estimate: one token per four bytes of UTF-8, as for English prose with current tokenizers."""
    return -(-len(text.encode()) // 4)


def most_tokens(text: str) -> int:
    """Return a number that is rarely exceeded: one token per three bytes, so one per Chinese character."""
    # 8 more for the marks that a chat template puts around each turn.
    return -(-len(text.encode()) // 3) + 8
