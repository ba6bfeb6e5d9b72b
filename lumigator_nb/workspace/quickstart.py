"""The quickstart (`make quickstart`): compare three models on bundled conversations, by public calls only."""

from __future__ import annotations

from collections.abc import Callable

from lumigator_nb.database.records import Workflow
from lumigator_nb.specs import Model
from lumigator_nb.workspace import Workspace

QUICKSTART = "quickstart"
MODELS = (
    "baseline/lead-1",
    "baseline/lead-3",
    Model("hf/HuggingFaceTB/SmolLM2-135M-Instruct", label="SmolLM2-135M", max_new_tokens=60),
)


def launch_quickstart(ws: Workspace, say: Callable[[str], object]) -> list[Workflow]:
    """Launch three summarizers on the bundled conversations. A repeated call finds the dataset and the results."""
    dataset = ws.datasets.sample("dialogues")
    experiment = ws.experiments.find(QUICKSTART) or ws.experiments.create(QUICKSTART, dataset=dataset)
    for model in MODELS:
        say(f"  {model.label if isinstance(model, Model) else model}")
    return ws.workflows.launch(experiment, MODELS)
