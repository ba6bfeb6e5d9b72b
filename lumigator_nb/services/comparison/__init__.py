"""Comparisons: scores side by side, intervals, verdicts, and how they are shown."""

# Registers how comparisons show themselves.
from lumigator_nb.services.comparison import markdown as markdown
from lumigator_nb.services.comparison import report as report
from lumigator_nb.services.comparison import view as view
