"""How many processes share a workflow, and what each of them takes. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

from lumigator_nb import metrics, models
from lumigator_nb.models import RECORDED
from lumigator_nb.specs import Launch, MetricSpec, Model, Resources, WorkflowSpec

# Below, several processes take longer to start than they save: some seconds, which a rule needs for 100,000 examples.
MANY_EXAMPLES, MANY_OF_RULES = 20_000, 200_000
# A process that waits for an API leaves its core to others most of the time.
WAITING_CPUS = 0.5
# Shards of a rule that are handed out at once, so that handing out costs nothing beside the work.
SHARDS_AT_ONCE = 8


def is_spread(model: Model, launch: Launch, n_examples: int) -> bool:
    """Whether several processes share the work.

    A budget holds for all answers together, what a batch service is asked goes in one piece, and each process would
    count all hours of a server: these are one process's. So is what the launching process has answered itself.
    """
    if models.waits(model) and models.hourly_rate(model):
        return False
    if launch.budget is not None or launch.mode == "batch" or launch.workers == 1:
        return False
    many = MANY_OF_RULES if is_rule(model) else MANY_EXAMPLES
    return (launch.workers or 0) > 1 or n_examples >= many


def is_rule(model: Model) -> bool:
    """Whether the model answers thousands of examples in a second."""
    return not models.keeps_answers(model) and not models.uses_all_cores(model)


def per_process(model: Model, given: Resources) -> Resources:
    """Return what each process that asks a model takes; `num_cpus` None is all that the largest node has."""
    if given.num_cpus is not None:
        return given
    if models.uses_all_cores(model) and not given.num_gpus:
        return given
    return given.model_copy(update={"num_cpus": WAITING_CPUS if models.waits(model) else 1.0})


def per_scorer(metric: MetricSpec, given: Resources) -> Resources:
    """Return what each process that scores takes, where those that ask the model take `given`."""
    return Resources(num_cpus=1.0, num_gpus=given.num_gpus if metrics.class_of(metric).on_gpu else None)


def room(needs: Resources, nodes: Sequence[dict[str, float]]) -> int:
    """Return how many processes find room on nodes, whose resources go by Ray's names; at least one."""
    return max(1, sum(_fitting(needs, node) for node in nodes))


def _fitting(needs: Resources, node: dict[str, float]) -> int:
    wanted = {"CPU": needs.num_cpus or 0.0, "GPU": needs.num_gpus or 0.0, "memory": float(needs.memory or 0)}
    wanted |= needs.resources
    counts = [int(node.get(name, 0.0) / amount + 1e-9) for name, amount in wanted.items() if amount > 0]
    return min(counts, default=1)


def lots(shards: Sequence[int], n_processes: int, most: int) -> list[tuple[int, ...]]:
    """Divide shards into lots of neighbours: large enough to be worth handing out, small enough to share evenly.

    Args:
        most: shards in a lot.
    """
    size = max(1, min(most, len(shards) // (4 * n_processes)))
    return [tuple(shards[at : at + size]) for at in range(0, len(shards), size)]


def shards_at_once(spec: WorkflowSpec) -> int:
    """Return how many shards may be handed out at once."""
    return SHARDS_AT_ONCE if is_rule(spec.model) else 1


def is_answered_elsewhere(spec: WorkflowSpec) -> bool:
    """Whether the predictions come from the process that launched the workflow."""
    return spec.model.provider == RECORDED or models.runs_here(spec.model)
