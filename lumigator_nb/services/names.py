"""The one rule for names that users give."""

from __future__ import annotations

from lumigator_nb.errors import InvalidInputError


def checked_name(name: str) -> str:
    """Return the name without surrounding blanks.

    Raises:
        InvalidInputError: it is empty or has characters that cannot be seen.
    """
    stripped = name.strip()
    if not stripped or not stripped.isprintable():
        raise InvalidInputError(f"{name!r} cannot be a name", "write visible characters, and no line breaks")
    return stripped
