"""Comparisons of models: scores, intervals, verdicts and their views."""

# Imported for their side effect: they register the views of a comparison with `display.render`.
from lumigator_nb.services.comparison import markdown as markdown
from lumigator_nb.services.comparison import report as report
from lumigator_nb.services.comparison import view as view
