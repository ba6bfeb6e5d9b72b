"""The rule for names that users choose."""

from __future__ import annotations

from lumigator_nb.errors import InvalidInputError


def checked_name(name: str) -> str:
    """Return the name without surrounding white space.

    Raises:
        InvalidInputError: it is empty or has characters that do not print.
    """
    stripped = name.strip()
    if not stripped or not stripped.isprintable():
        raise InvalidInputError(f"{name!r} cannot be a name", "use visible characters and no line breaks")
    return stripped
