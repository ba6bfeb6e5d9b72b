"""Comparisons: scores side by side, intervals, verdicts, and how they are shown."""
