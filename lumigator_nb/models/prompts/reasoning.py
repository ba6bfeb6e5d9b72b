"""What a model thinks aloud, apart from what it answers."""

from __future__ import annotations

OPENING, CLOSING = "<think>", "</think>"
USED_UP = "max_new_tokens was used up before the answer began: raise it"


def left_open(prompt: str) -> bool:
    """Whether a prompt opens a thought that the answer is to go on with and to close."""
    return prompt.rfind(OPENING) > prompt.rfind(CLOSING)


def split_reasoning(text: str, *, opened: bool = False) -> tuple[str | None, str]:
    """Return what stands between ``<think>`` and ``</think>`` at the start, and the rest.

    Without a closing tag all is reasoning.

    Args:
        text: what the model wrote.
        opened: the prompt ended inside a thought. Where that is not known, a closing tag alone shows it too.
    """
    start = text.lstrip()
    if CLOSING in text:
        thought, _, answer = text.partition(CLOSING)
        return thought.replace(OPENING, "", 1).strip() or None, answer.lstrip()
    if opened or start.startswith(OPENING):
        return start.removeprefix(OPENING).strip() or None, ""
    return None, text
