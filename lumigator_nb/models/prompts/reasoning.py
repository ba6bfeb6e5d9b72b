"""Reasoning that a model writes before its answer, between ``<think>`` and ``</think>``."""

from __future__ import annotations

OPENING, CLOSING = "<think>", "</think>"
USED_UP = "max_new_tokens was used up before the answer began: raise it"


def left_open(prompt: str) -> bool:
    """Return whether a prompt ends inside reasoning, which the model continues and closes."""
    return prompt.rfind(OPENING) > prompt.rfind(CLOSING)


def split_reasoning(text: str, *, opened: bool = False) -> tuple[str | None, str]:
    """Split a model's output into the reasoning at its start (None for none) and the answer.

    If a tag was opened and never closed, all of the text is reasoning.

    Args:
        text: the model's output.
        opened: whether the prompt ended inside reasoning. If that is unknown, a closing tag without an opening one
            shows it.
    """
    start = text.lstrip()
    if CLOSING in text:
        reasoning, _, answer = text.partition(CLOSING)
        return reasoning.replace(OPENING, "", 1).strip() or None, answer.lstrip()
    if opened or start.startswith(OPENING):
        return start.removeprefix(OPENING).strip() or None, ""
    return None, text
