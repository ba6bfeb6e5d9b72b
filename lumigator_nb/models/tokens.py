"""How many tokens a text has, before any tokenizer was asked."""

from __future__ import annotations


def about_tokens(text: str) -> int:
    """Return a guess: one for four bytes of UTF-8, as English prose has in the tokenizers of current models."""
    return -(-len(text.encode()) // 4)


def most_tokens(text: str) -> int:
    """Return a number that is rarely exceeded: one for three bytes, which is one for each Chinese character."""
    return -(-len(text.encode()) // 3) + 8
