"""Statistics of scores: pure functions over arrays. docs/statistics.md says when each method is valid."""

from lumigator_nb.statistics.agreement import (
    Statistic,
    bootstrap_agreement,
    kendall_tau,
    krippendorff_alpha,
    wilson_interval,
)
from lumigator_nb.statistics.bootstrap import (
    Difference,
    Interval,
    bootstrap_interval,
    difference,
    intervals,
    paired_difference,
)
from lumigator_nb.statistics.bradley_terry import (
    BradleyTerry,
    BradleyTerryIntervals,
    bradley_terry,
    bradley_terry_intervals,
)
from lumigator_nb.statistics.corrections import holm, romano_wolf
from lumigator_nb.statistics.gating import Decision, Outcome, decide_mean, decide_quantile, decide_share
from lumigator_nb.statistics.monitoring import Change, changes, difference_sequence, look_confidence
from lumigator_nb.statistics.noninferiority import NotWorse, not_worse_than_best, pareto_front
from lumigator_nb.statistics.planning import (
    Plan,
    RepeatOption,
    RepeatPlan,
    detectable_difference,
    examples_needed,
    plan,
    plan_repeats,
)
from lumigator_nb.statistics.prediction_powered import (
    LabelDraw,
    PredictionPowered,
    next_to_label,
    prediction_powered_mean,
)
from lumigator_nb.statistics.racing import Population, Race, RaceStandings, looks, race, race_standings
from lumigator_nb.statistics.ranking import RankSet, pairwise_p_values, probability_best, rank_sets, wins
from lumigator_nb.statistics.repeats import (
    Instability,
    VarianceComponents,
    instability,
    mean_over_repeats,
    pass_at_k,
    pass_hat_k,
    repeated_interval,
    variance_components,
)
from lumigator_nb.statistics.resampling import (
    Aggregate,
    FloatArray,
    pseudo_values,
    resampled_scores,
    resampled_totals,
)
from lumigator_nb.statistics.sequences import betting_bounds, betting_sequence, normal_sequence
from lumigator_nb.statistics.skewness import examples_for_skewness
from lumigator_nb.statistics.slicing import Slice, slice_flips
from lumigator_nb.statistics.trust import Trust, trust

__all__ = [
    "Aggregate",
    "BradleyTerry",
    "BradleyTerryIntervals",
    "Change",
    "Decision",
    "Difference",
    "FloatArray",
    "Instability",
    "Interval",
    "LabelDraw",
    "NotWorse",
    "Outcome",
    "Plan",
    "Population",
    "PredictionPowered",
    "Race",
    "RaceStandings",
    "RankSet",
    "RepeatOption",
    "RepeatPlan",
    "Slice",
    "Statistic",
    "Trust",
    "VarianceComponents",
    "betting_bounds",
    "betting_sequence",
    "bootstrap_agreement",
    "bootstrap_interval",
    "bradley_terry",
    "bradley_terry_intervals",
    "changes",
    "decide_mean",
    "decide_quantile",
    "decide_share",
    "detectable_difference",
    "difference",
    "difference_sequence",
    "examples_for_skewness",
    "examples_needed",
    "holm",
    "instability",
    "intervals",
    "kendall_tau",
    "krippendorff_alpha",
    "look_confidence",
    "looks",
    "mean_over_repeats",
    "next_to_label",
    "normal_sequence",
    "not_worse_than_best",
    "paired_difference",
    "pairwise_p_values",
    "pareto_front",
    "pass_at_k",
    "pass_hat_k",
    "plan",
    "plan_repeats",
    "prediction_powered_mean",
    "probability_best",
    "pseudo_values",
    "race",
    "race_standings",
    "rank_sets",
    "repeated_interval",
    "resampled_scores",
    "resampled_totals",
    "romano_wolf",
    "slice_flips",
    "trust",
    "variance_components",
    "wilson_interval",
    "wins",
]
