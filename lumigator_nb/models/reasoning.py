"""What a model thinks aloud, apart from what it answers."""

from __future__ import annotations

OPENING, CLOSING = "<think>", "</think>"


def split_reasoning(text: str) -> tuple[str | None, str]:
    """Return what stands between ``<think>`` and ``</think>`` at the start, and the rest.

    The opening tag may be missing, where the prompt ended with it. Without a closing tag all is reasoning.
    """
    start = text.lstrip()
    if CLOSING in text:
        thought, _, answer = text.partition(CLOSING)
        return thought.replace(OPENING, "", 1).strip() or None, answer.lstrip()
    if start.startswith(OPENING):
        return start[len(OPENING) :].strip() or None, ""
    return None, text
