"""Statistics over scores, as pure functions over arrays."""

from lumigator_nb.statistics.bootstrap import (
    Difference,
    Interval,
    bootstrap_interval,
    paired_difference,
    resampled_totals,
)

__all__ = ["Difference", "Interval", "bootstrap_interval", "paired_difference", "resampled_totals"]
