"""Temporary folders in which a screen keeps a file for a while."""

from __future__ import annotations

# The name says which process made the folder: `lumigator-nb gc` removes those of processes that were killed.
from lumigator_nb.storage.layout import temporary as temporary
