"""Ground truth that a model generates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lumigator_nb.database.records import Dataset
from lumigator_nb.errors import DatasetError
from lumigator_nb.specs import Model, Summarization, Task, digest

if TYPE_CHECKING:
    from lumigator_nb.services.datasets.datasets import Datasets
    from lumigator_nb.services.experiments import Experiments
    from lumigator_nb.services.workflows.workflows import Workflows


class ModelAnnotator:
    """Launches a model on a dataset, and creates a new dataset with its predictions as ground truth."""

    def __init__(self, experiments: Experiments, workflows: Workflows) -> None:
        self._experiments, self._workflows = experiments, workflows

    def annotate(
        self,
        datasets: Datasets,
        dataset: Dataset,
        model: Model | str,
        task: Task | None,
        name: str | None,
        options: dict[str, Any],
    ) -> Dataset:
        """See :meth:`Datasets.annotate`."""
        model = Model(model) if isinstance(model, str) else model
        task = task or Summarization()
        title = name or f"{dataset.name}, answered by {model.label}"
        # After a call that was interrupted, the same call finds its experiment by this name, and continues it.
        question = digest([dataset.id, task.model_dump(mode="json"), model.fingerprint])[:6]
        experiment = self._experiments.find(f"{title} ({question})") or self._experiments.create_unscored(
            f"{title} ({question})", dataset=dataset, task=task
        )
        wait = {key: options.pop(key) for key in ("timeout", "progress") if key in options}
        workflows = self._workflows.launch(experiment, [model], **options)
        workflow = self._workflows.wait(workflows, check=True, **wait)[0]
        frame = datasets.to_pandas(dataset)
        predictions = self._workflows.predictions(workflow).set_index("row")["prediction"]
        frame["ground_truth"] = predictions.reindex(range(len(frame))).to_numpy()
        missing = int(frame["ground_truth"].isna().sum())
        if missing == len(frame):
            raise DatasetError("no example was answered", "look at ws.workflows.logs(…)")
        return datasets.keep_generated(frame, name=title, model=model.label, workflow_id=workflow.id, missing=missing)
