"""Gate files: a gate described in TOML, run as a whole, for continuous integration."""

from __future__ import annotations

import tomllib
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from lumigator_nb.database.records import Dataset, Workflow
from lumigator_nb.display.text import count
from lumigator_nb.errors import (
    ConfigurationError,
    InvalidInputError,
    JobFailedError,
    LumigatorError,
    NotFoundError,
    did_you_mean,
)
from lumigator_nb.metrics import Judge
from lumigator_nb.services.comparison.gate_report import GateReport
from lumigator_nb.services.comparison.gate_report import of as report_of
from lumigator_nb.specs import MetricSpec, Model, Status, Task, TextGeneration, Translation, digest, now
from lumigator_nb.workspace import Workspace, connect

_TOP = (
    "name", "dataset", "example", "ground_truth", "dataset_sha256", "max_samples", "groups", "metrics", "budget",
    "max_failed", "worst", "task", "candidate", "baseline", "rules",
)  # fmt: skip
_TASK = ("kind", "prompt", "prompt_file", "template", "template_file", "source", "target")
_RULES = ("score", "margin", "at_most", "at_least", "confidence")
_KINDS = get_args(Task.model_fields["kind"].annotation)
# Per role, as messages call it.
_ROLES = ("candidate", "baseline")


@dataclass(frozen=True)
class GateFile:
    """What a gate file says.

    Attributes:
        path: of the file; other paths in it are relative to its folder.
        name: of the check; default the file's name without its ending.
        dataset: path, URL, or name of an uploaded dataset.
        columns: `example` and `ground_truth`, as for :meth:`Datasets.upload`.
        dataset_sha256: SHA-256 of the dataset's file; another file is refused. None accepts any.
        task, metrics, max_samples: of the experiment. No metrics: those of the task.
        candidate, baseline: the models.
        rules: the keyword arguments of :meth:`Comparison.gate`.
        launch: the keyword arguments of :meth:`Workflows.launch`.
        groups: metadata column of examples that are not independent.
        worst: number of examples to print.
    """

    path: Path
    name: str
    dataset: str
    task: Task
    candidate: Model
    baseline: Model | None
    rules: Mapping[str, Any]
    columns: Mapping[str, Any] = field(default_factory=dict)
    dataset_sha256: str | None = None
    metrics: tuple[MetricSpec | str, ...] | None = None
    max_samples: int | None = None
    launch: Mapping[str, Any] = field(default_factory=dict)
    groups: str | None = None
    worst: int = 5


def gate(path: str | Path, *, workspace: Workspace | None = None, progress: bool = True) -> GateReport:
    """Run the experiment that a gate file describes, and decide whether the candidate passes its gate.

    Models answer through the answer cache, so that only new and changed questions are paid for. `docs/gate.md` lists
    what a file may contain.

    Args:
        path: a TOML file.
        workspace: where to run; default the one that :func:`connect` opens.
        progress: show a progress display.

    Returns:
        The gate, with what changed per slice and the examples on which the candidate falls behind most.

    Raises:
        InvalidInputError: the file has an unknown key or a bad value, or the dataset is not the one that it names.
        NotFoundError: the file or its dataset is not there.
        ConfigurationError: an API key is missing.
        JobFailedError: a model could not answer: it is gone, or its budget is used up.
        LumigatorError: the errors of :meth:`Workflows.launch`.

    Examples:
        >>> from pathlib import Path
        >>> _ = Path("gate.toml").write_text('''
        ... dataset = "dialogues"
        ... metrics = ["rouge"]
        ... candidate = {model = "baseline/lead-3"}
        ... baseline = {model = "baseline/copy"}
        ... rules = {score = "rougeL", margin = 0.05}
        ... ''')
        >>> report = lm.gate("gate.toml", workspace=ws, progress=False)
        >>> report.outcome, report.exit_code
        ('passed', 0)
    """
    file = read(path)
    if workspace is not None:
        return _run(workspace, file, progress)
    with connect() as own:
        return _run(own, file, progress)


def _run(ws: Workspace, file: GateFile, progress: bool) -> GateReport:
    dataset, notes = _dataset(ws, file)
    models = [model for model in (file.candidate, file.baseline) if model is not None]
    # Each set of data, task, metrics and models is an experiment; answers that they share come from the answer cache.
    metrics = None if file.metrics is None else [one if isinstance(one, str) else one.key for one in file.metrics]
    identity = [dataset.id, file.task.model_dump(mode="json"), metrics, file.max_samples,
                *((model.label, model.fingerprint) for model in models)]  # fmt: skip
    name = f"{file.name} [{digest(identity)[:8]}]"
    experiment = ws.experiments.find(name) or ws.experiments.create(
        name, dataset=dataset, task=file.task, metrics=None if file.metrics is None else list(file.metrics),
        max_samples=file.max_samples, description=f"check of {file.path.name}",
    )  # fmt: skip
    began = now()
    try:
        launched = ws.workflows.launch(experiment, models, **file.launch)
    except ConfigurationError as error:
        raise ConfigurationError(error.message, _in_ci(error.hint)) from error
    workflows = ws.wait(launched, progress=progress)
    for role, model in zip(_ROLES, models, strict=False):
        workflow = next(workflow for workflow in workflows if workflow.label == model.label)
        if workflow.status is not Status.SUCCEEDED:
            raise _failure(role, workflow, file)
    comparison = ws.compare(experiment, groups=file.groups)
    gate = comparison.gate(*(model.label for model in models), **file.rules)
    asked = [ws.workflows.predictions(workflow) for workflow in workflows if workflow.attempted_at >= began]
    return report_of(comparison, gate, name=file.name, asked=asked, worst=file.worst, notes=notes,
                      score=file.rules.get("score"))  # fmt: skip


def _in_ci(hint: str | None) -> str:
    return f"{hint or 'set it'}; in CI, pass it as a secret of the repository (pull requests from forks get none)"


def _failure(role: str, workflow: Workflow, file: GateFile) -> JobFailedError:
    reason = workflow.error or f"it is {workflow.status}"
    hint = "fix the cause and check again: answers that are there are not paid for twice"
    if "there is no model" in reason:
        hint = f"if its provider has retired it, name its successor as {role} in {file.path.name}"
    message = f"the {role} {workflow.label!r} could not answer: {reason.splitlines()[0]}"
    return JobFailedError(message, hint, job_id=workflow.id)


def _dataset(ws: Workspace, file: GateFile) -> tuple[Dataset, list[str]]:
    """Return the dataset, and notes about its versions.

    Raises:
        InvalidInputError: it is not the one that the file names.
    """
    path = file.path.parent / file.dataset
    is_source = "://" in file.dataset
    if path.is_file() or is_source:
        with warnings.catch_warnings():
            # The next check of the same file finds its dataset stored, as it should.
            warnings.filterwarnings("ignore", "the same content is already stored")
            dataset = ws.datasets.upload(
                file.dataset if is_source else path, name=file.name, new_version=True, progress=False, **file.columns
            )
    else:
        stored = ws.datasets.find(file.dataset)
        if stored is None:
            raise NotFoundError(
                "dataset", file.dataset,
                f"{file.path.name} names neither a file beside it nor a dataset of 'lumigator-nb datasets list'",
            )  # fmt: skip
        dataset = stored
    if file.dataset_sha256 is None:
        pin = f'The dataset is not pinned: dataset_sha256 = "{dataset.content_hash}" refuses any other.'
        return dataset, [*_changed(ws, dataset), pin]
    if dataset.content_hash != file.dataset_sha256.lower():
        raise InvalidInputError(
            f"the dataset has changed: {file.path.name} names SHA-256 {file.dataset_sha256}, and {file.dataset} has "
            f"{dataset.content_hash}. {' '.join(_changed(ws, dataset))}".rstrip(),
            "results on other data are not comparable: restore the dataset, or write the new SHA-256 into "
            f"{file.path.name} if the change is intended",
        )
    return dataset, []


def _changed(ws: Workspace, dataset: Dataset) -> Iterator[str]:
    """Say how the dataset differs from the version before it, if this workspace has one."""
    if dataset.version > 1:
        last = ws.datasets.history(dataset.name).iloc[-1]
        yield (
            f"It is version {dataset.version} of the dataset in this workspace: {count(last['added'], 'row')} added, "
            f"{last['removed']} removed, {last['changed']} changed."
        )


def read(path: str | Path) -> GateFile:
    """Read a gate file, and check it without running anything.

    Raises:
        NotFoundError: there is no such file.
        InvalidInputError: it is not TOML, has an unknown key, lacks one, or a value is malformed.
    """
    path = Path(path).expanduser()
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NotFoundError("file", str(path), "name a gate file, such as gate.toml") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{path}: {error}", "a gate file is TOML: see docs/gate.md") from None
    try:
        return _parsed(path, content)
    except LumigatorError as error:
        error.message = f"{path}: {error.message}"
        raise


def _parsed(path: Path, content: dict[str, Any]) -> GateFile:
    _only_known(content, _TOP, "")
    for key in ("dataset", "candidate", "rules"):
        if key not in content:
            raise InvalidInputError(f"{key!r} is missing", "a gate file has at least dataset, candidate and rules")
    rules, candidate, baseline = content["rules"], content["candidate"], content.get("baseline")
    for where, table in (("rules", rules), ("candidate", candidate), ("baseline", baseline or {})):
        if not isinstance(table, dict):
            raise InvalidInputError(f"{where} cannot be {table!r}", f"make it a table: [{where}]")
    _only_known(rules, _RULES, "rules")
    for key in ("at_most", "at_least"):
        _numbers(rules.get(key, {}), f"rules.{key}")
    if isinstance(rules.get("margin"), dict):
        _numbers(rules["margin"], "rules.margin")
    models = [_model(path, candidate, "candidate")]
    if baseline is not None:
        models.append(_model(path, baseline, "baseline"))
        models = _distinct(models)
    columns: dict[str, Any] = {key: content[key] for key in ("example", "ground_truth") if key in content}
    return GateFile(
        path=path,
        name=_of(content, "name", str, path.stem),
        dataset=_of(content, "dataset", str, ""),
        task=_task(path, content.get("task", {})),
        candidate=models[0],
        baseline=models[1] if len(models) > 1 else None,
        rules=rules,
        columns=columns,
        dataset_sha256=_of(content, "dataset_sha256", str, None),
        metrics=_metrics(path, content.get("metrics")),
        max_samples=_of(content, "max_samples", int, None),
        launch={key: _of(content, key, (int, float), None) for key in ("budget", "max_failed") if key in content},
        groups=_of(content, "groups", str, None),
        worst=_of(content, "worst", int, 5),
    )


def _only_known(table: Mapping[str, Any], known: Collection[str], where: str) -> None:
    for key in table:
        if key not in known:
            inside = f" in [{where}]" if where else ""
            raise InvalidInputError(f"unknown key {key!r}{inside}", did_you_mean(key, known))


def _of(table: Mapping[str, Any], key: str, kind: Any, default: Any) -> Any:
    value = table.get(key, default)
    # True is an int, and never meant as a number here.
    if key in table and (not isinstance(value, kind) or isinstance(value, bool)):
        raise InvalidInputError(f"{key} cannot be {value!r}", f"give {'a text' if kind is str else 'a number'}")
    return value


def _numbers(table: Any, where: str) -> None:
    if not isinstance(table, dict):
        raise InvalidInputError(f"{where} cannot be {table!r}", f"make it a table, such as {where} = {{json = 0.99}}")
    for key, value in table.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InvalidInputError(f"{where}.{key} cannot be {value!r}", "give a number")


def _model(path: Path, table: Mapping[str, Any], role: str) -> Model:
    settings = _with_files(path, table, ("prompt",), role)
    name = settings.pop("model", None)
    if not isinstance(name, str):
        raise InvalidInputError(f"the {role} names no model", f'write model = "provider/name" into [{role}]')
    try:
        return Model(name, **settings)
    except LumigatorError as error:
        error.message = f"[{role}] {error.message}"
        raise


def _distinct(models: Sequence[Model]) -> list[Model]:
    """Tell two models of the same name apart: two prompts of one model are what a gate often compares."""
    if models[0].fingerprint == models[1].fingerprint:
        raise InvalidInputError(
            "candidate and baseline are the same model with the same settings", "change one of them"
        )
    if models[0].label != models[1].label:
        return list(models)
    return [
        model.model_copy(update={"label": f"{model.label} ({role})"})
        for model, role in zip(models, _ROLES, strict=True)
    ]


def _with_files(path: Path, table: Mapping[str, Any], keys: Sequence[str], where: str) -> dict[str, Any]:
    """Return a table with the texts of the files that it names: prompt_file becomes prompt."""
    settings = dict(table)
    for key in keys:
        name = settings.pop(f"{key}_file", None)
        if name is None:
            continue
        if key in settings:
            raise InvalidInputError(f"[{where}] has both {key} and {key}_file", "leave one of them out")
        file = path.parent / str(name)
        if not file.is_file():
            raise NotFoundError("file", str(file), f"[{where}] {key}_file is relative to {path.name}")
        settings[key] = file.read_text(encoding="utf-8").strip()
    return settings


def _task(path: Path, table: Mapping[str, Any]) -> Task:
    _only_known(table, _TASK, "task")
    settings = _with_files(path, table, ("prompt", "template"), "task")
    kind = settings.pop("kind", "summarization")
    if kind not in _KINDS:
        raise InvalidInputError(f"[task] unknown kind {kind!r}", did_you_mean(str(kind), _KINDS))
    if kind == "translation":
        return Translation(settings.pop("source", ""), settings.pop("target", ""), **settings)
    if kind == "text_generation":
        return TextGeneration(settings.pop("prompt", ""), template=settings.get("template"))
    return Task(kind=kind, **settings)


def _metrics(path: Path, listed: Any) -> tuple[MetricSpec | str, ...] | None:
    if listed is None:
        return None
    specs: list[MetricSpec | str] = []
    for entry in [listed] if isinstance(listed, str | dict) else listed:
        if isinstance(entry, str):
            specs.append(entry)
        elif not isinstance(entry, dict) or not {"name", "judge"} & entry.keys():
            raise InvalidInputError(
                f"metrics: {entry!r} is not a metric", 'give a name, or a table: {name = "json", required = ["id"]}'
            )
        elif "judge" in entry:
            options = dict(entry)
            model = options.pop("model", None)
            chosen: dict[str, Any] = (
                {"model": _model(path, model, "judge") if isinstance(model, dict) else model} if model else {}
            )
            try:
                specs.append(Judge(options.pop("judge"), **chosen, **options))
            except TypeError as error:
                raise InvalidInputError(f"metrics: {error}", "see lm.Judge for what a judge takes") from None
        else:
            specs.append(MetricSpec(name=entry["name"], options={key: entry[key] for key in entry if key != "name"}))
    return tuple(specs)
