"""Docstrings as the API reference shows them: they are written for editors first."""

from __future__ import annotations

import re
from typing import Any

import griffe

# Editors follow :meth:`Workspace.wait`; on a page it is code.
ROLE = re.compile(r":(?:class|func|meth|mod|attr|data|exc):`~?([^`]+)`")
# "As :meth:`launch`." stands among the errors for all of another call's; griffe wants the name of an error there.
SAME_ERRORS = re.compile(r"^( +)As (`.*)$", re.MULTILINE)


class Roles(griffe.Extension):
    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            text = ROLE.sub(r"`\1`", obj.docstring.value).replace("``", "`")
            obj.docstring.value = SAME_ERRORS.sub(r"\1LumigatorError: as \2", text)
