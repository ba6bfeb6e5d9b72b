"""Statistics over scores, as pure functions over arrays."""

from lumigator_nb.statistics.agreement import (
    Statistic,
    agreement_rate,
    bootstrap_agreement,
    kendall_tau,
    krippendorff_alpha,
    wilson_interval,
)
from lumigator_nb.statistics.bootstrap import (
    Difference,
    Interval,
    bootstrap_interval,
    paired_difference,
    resampled_totals,
)

__all__ = [
    "Difference",
    "Interval",
    "Statistic",
    "agreement_rate",
    "bootstrap_agreement",
    "bootstrap_interval",
    "kendall_tau",
    "krippendorff_alpha",
    "paired_difference",
    "resampled_totals",
    "wilson_interval",
]
