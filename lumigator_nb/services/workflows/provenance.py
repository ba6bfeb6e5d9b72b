"""Provenance of a result: who launched it, when, on which data, with which code, and what the worker used.

The launching process writes what it knows into :attr:`Workflow.provenance` at each attempt. What only the worker knows
(the model's revision, the device, versions on the cluster) is in the details of the jobs. :func:`of` joins both.
Neither holds a secret, an environment variable or a path of this machine.
"""

from __future__ import annotations

import getpass
import platform
import re
import socket
import subprocess
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from lumigator_nb._version import __version__
from lumigator_nb.database.engine import Database
from lumigator_nb.database.queries import reading
from lumigator_nb.database.records import Dataset, Experiment, Workflow, key_of
from lumigator_nb.display import render
from lumigator_nb.display.descriptions import TALLIED, shown_options, without_secrets
from lumigator_nb.display.html import clipped, fragment, table, tag
from lumigator_nb.display.render import Rendered
from lumigator_nb.display.text import MISSING, one_line
from lumigator_nb.engine import steps
from lumigator_nb.errors import NotFoundError
from lumigator_nb.specs import Model, Step, Task, digest, now

GIT_TIMEOUT_S = 2.0
MOST_EARLIER = 20

# Details of a job that count answers or say how fast they came, and so are no provenance.
_COUNTS = TALLIED | {
    "shards_reused", "retries", "most_at_once", "n_scored", "unscored", "n_empty", "failed_metrics", "priced",
    "traceback",
}  # fmt: skip


@dataclass(frozen=True)
class Provenance(Rendered):
    """Where the result of a workflow comes from. What was not recorded at the time is missing, never guessed.

    Attributes:
        workflow: `id`, `label`, `experiment`, `attempt` (the latest), `status`.
        launch: `user`, `host`, `when` (UTC, ISO 8601) of the latest attempt.
        git: of the folder it was launched from: `commit`, `branch`, `dirty` (whether tracked files were changed),
            `remote`; empty if that was not a repository.
        dataset: `id`, `name`, `version`, `content_hash` (of the upload), `data_hash` (of the normalised file); and
            `sample` (`n`, `of`, `seed`) if only some of its rows were used.
        asked: `model` (provider/name), `fingerprint`, `prompt` (hash of the task), `seed`, and the model's settings.
        versions: of Python, the platform and packages in the launching process.
        inference, evaluation: what the worker recorded for the step: revision, device, versions there.
        metrics: signature of each metric by its title.
        earlier: the launches of earlier attempts, oldest first.
    """

    workflow: dict[str, Any]
    launch: dict[str, Any] = field(default_factory=dict)
    git: dict[str, Any] = field(default_factory=dict)
    dataset: dict[str, Any] = field(default_factory=dict)
    asked: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, Any] = field(default_factory=dict)
    inference: dict[str, Any] = field(default_factory=dict)
    evaluation: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    earlier: tuple[dict[str, Any], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return all sections as plain JSON values."""
        return {**asdict(self), "earlier": list(self.earlier)}


@dataclass(frozen=True)
class Change:
    """A fact that is not what it was; `what` names it."""

    what: str
    before: Any
    after: Any


class Circumstances:
    """What a launch records, collected once for all of its workflows.

    Args:
        subjects: each experiment with its dataset, by the experiment's id.
    """

    def __init__(self, subjects: Mapping[str, tuple[Experiment, Dataset]]) -> None:
        self._subjects = subjects
        self._launch = {"user": _user(), "host": socket.gethostname(), "when": now().isoformat(timespec="seconds")}
        self._git = git_state()
        # Looking up versions takes longer than all else, and the models of one provider have the same.
        self._versions: dict[tuple[str, str, str], dict[str, str]] = {}

    def of(self, workflow: Workflow) -> dict[str, Any]:
        """Return what to record of the workflow's current attempt, with its launches before in short."""
        experiment, dataset = self._subjects[workflow.experiment_id]
        model, previous = workflow.model, workflow.provenance
        key = experiment.id, model.provider, str(model.options.get("import"))
        if key not in self._versions:
            self._versions[key] = versions_here(model, experiment)
        earlier = [*previous.get("earlier", ())]
        if "launch" in previous:
            fields = ("attempt", "launch", "git", "versions")
            earlier.append({name: previous[name] for name in fields if previous.get(name)})
        record = {
            "attempt": workflow.attempt,
            "launch": self._launch,
            "git": self._git,
            "dataset": _dataset(dataset),
            "asked": steps.without_home(_asked(model, experiment.task)),
            "versions": self._versions[key],
            "earlier": earlier[-MOST_EARLIER:],
        }
        return {name: value for name, value in record.items() if value}


def circumstances(database: Database, experiment_ids: Collection[str]) -> Circumstances:
    """Return what launches in these experiments record; it asks git, so no transaction should be open meanwhile."""
    with reading(database) as work:
        experiments = [work.experiments.get(key) for key in set(experiment_ids)]
        subjects = {experiment.id: (experiment, work.data_of(experiment)) for experiment in experiments}
    return Circumstances(subjects)


def of(database: Database, workflow: Workflow | str) -> Provenance:
    """Return the provenance of a workflow's result, from what is recorded now.

    Args:
        workflow: record or id.

    Raises:
        NotFoundError: there is no such workflow.
    """
    key = key_of(workflow)
    with reading(database) as work:
        record = work.workflows.find(key)
        if record is None:
            raise NotFoundError("workflow", key, "ws.workflows.list() shows all workflows")
        experiment = work.experiments.get(record.experiment_id)
        dataset = work.data_of(experiment)
        jobs = {job.step: job for job in work.jobs.of_workflows([record.id])}
    launched = record.provenance
    # Jobs that earlier versions recorded may name the home folder.
    details = {step: steps.without_home(jobs[step].details) if step in jobs else {} for step in Step}
    signatures = details[Step.EVALUATION].pop("signatures", {})
    inference, evaluation = (
        {name: value for name, value in facts.items() if name not in _COUNTS and value not in (None, "", [], {})}
        for facts in details.values()
    )
    return Provenance(
        workflow={
            "id": record.id,
            "label": steps.without_home(record.label),
            "experiment": experiment.name,
            "attempt": record.attempt,
            "status": str(record.status),
        },
        launch=launched.get("launch", {}),
        git=launched.get("git", {}),
        # Neither changes after the launch: for a launch of an earlier version, the rows of today say it too.
        dataset={**_dataset(dataset), **launched.get("dataset", {})},
        asked={**_asked(record.model, experiment.task), **launched.get("asked", {})},
        versions=launched.get("versions", {}),
        inference=inference,
        evaluation=evaluation,
        metrics=dict(signatures),
        earlier=tuple(launched.get("earlier", ())),
    )


def changes(before: Provenance, after: Provenance) -> tuple[Change, ...]:
    """Return what may have changed answers or scores: data, question, model, device, versions, code, host.

    Names, times and people do not count, and neither does a fact that only one of the two has.
    """
    old, new = _decisive(before), _decisive(after)
    return tuple(Change(what, old[what], new[what]) for what in old if what in new and old[what] != new[what])


def _decisive(provenance: Provenance) -> dict[str, Any]:
    """Return the facts that may change answers or scores, by a name that a reader understands."""
    facts = {
        f"{prefix}{name}": section[name]
        for prefix, section, names in (
            ("dataset ", provenance.dataset, ("content_hash", "data_hash", "sample")),
            ("", provenance.asked, ("prompt",)),
            ("signature of ", provenance.metrics, provenance.metrics),
            ("git ", provenance.git, ("commit", "dirty")),
            ("", provenance.launch, ("host",)),
            # The worker's versions, below, replace these: it is the worker that computes.
            ("", provenance.versions, provenance.versions),
        )
        for name in names
        if name in section
    }
    for step in (provenance.evaluation, provenance.inference):
        facts |= {**step.get("versions", {}), **{name: value for name, value in step.items() if name != "versions"}}
    return facts


def versions_here(model: Model, experiment: Experiment) -> dict[str, str]:
    """Return the versions of this package, Python, the platform and what model and metrics use, where installed."""
    own = {"lumigator_nb": __version__, "python": platform.python_version(), "platform": platform.platform()}
    return {**own, **steps.versions([model], experiment.metrics)}


def git_state() -> dict[str, Any]:
    """Return commit, branch, whether tracked files are changed, and remote; empty where there is no repository."""
    status = _git("status", "--porcelain=v2", "--branch", "--untracked-files=no")
    if status is None:
        return {}
    lines = status.splitlines()
    heads = dict(line[2:].split(" ", 1) for line in lines if line.startswith("# branch.") and line.count(" ") > 1)
    state = {
        "commit": heads.get("branch.oid"),
        "branch": heads.get("branch.head"),
        "dirty": any(not line.startswith("#") for line in lines),
        "remote": public_address(_git("config", "--get", "remote.origin.url") or ""),
    }
    # So git writes it if there is no commit yet, or no branch.
    return {name: value for name, value in state.items() if value not in (None, "(initial)", "(detached)")}


def public_address(remote: str) -> str | None:
    """Return a remote's address without user, password and parameters; None for a folder, which may name the user."""
    address = remote.strip()
    if re.match(r"(?!file:)[\w+.-]{2,}://", address, re.IGNORECASE):
        return without_secrets(address)
    # git@host:path, as ssh accepts it; a single letter before the colon is a drive of Windows.
    match = re.fullmatch(r"(?:[^/\\\s]*@)?([\w.-]{2,}:[^\\\s:@?#]+)", address)
    return match[1] if match and not address.lower().startswith("file:") else None


def _git(*arguments: str) -> str | None:
    # Take no lock that would disturb the user's own git, and run no program that the repository's settings name.
    command = ["git", "--no-optional-locks", "-c", "core.fsmonitor=false", *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, stdin=subprocess.DEVNULL, timeout=GIT_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace") if done.returncode == 0 else None


def _user() -> str | None:
    # For a user whom the system does not know it raises ImportError, KeyError or OSError, by version and platform.
    with suppress(Exception):
        return getpass.getuser()
    return None


def _dataset(dataset: Dataset) -> dict[str, Any]:
    fields = dataset.model_dump(include={"id", "name", "version", "content_hash", "data_hash"})
    facts = {name: value for name, value in fields.items() if value}
    return facts if dataset.sample is None else {**facts, "sample": dataset.sample.model_dump(mode="json")}


def _asked(model: Model, task: Task) -> dict[str, Any]:
    # A default prompt counts too: a later version may word it in another way.
    task = model.worded(task)
    prompt = digest({**task.model_dump(mode="json"), "prompt": task.instruction})
    generation = model.generation.model_dump(mode="json")
    seed = generation.pop("seed") + model.repeat - 1
    options = shown_options(model)
    return {
        "model": f"{model.provider}/{model.name}",
        "fingerprint": model.fingerprint,
        "prompt": prompt,
        "seed": seed,
        **generation,
        **({"base_url": without_secrets(model.base_url)} if model.base_url else {}),
        **({"options": options} if options else {}),
    }


_SECTIONS = {
    "launch": "Launched",
    "git": "Git",
    "dataset": "Dataset",
    "asked": "Asked",
    "versions": "Versions",
    "inference": "Inference",
    "evaluation": "Evaluation",
    "metrics": "Metrics",
}
_HASH_LENGTH = 16


def _rows(provenance: Provenance) -> list[tuple[str, str, str]]:
    """Return section, fact and value; the section stands in its first row only."""
    rows: list[tuple[str, str, str]] = []
    for name, heading in _SECTIONS.items():
        # Names of packages and metrics are shown as they are written.
        facts = _facts(getattr(provenance, name), verbatim=name in ("versions", "metrics"))
        rows += [("" if index else heading, *fact) for index, fact in enumerate(facts)]
    for index, attempt in enumerate(provenance.earlier):
        launch, version = attempt.get("launch", {}), attempt.get("versions", {}).get("lumigator_nb")
        parts = [launch.get("when"), launch.get("user"), launch.get("host"), version and f"lumigator_nb {version}"]
        text = ", ".join(str(part) for part in parts if part)
        rows.append(("" if index else "Earlier", f"attempt {attempt.get('attempt', '?')}", text))
    return rows


def _facts(section: Mapping[str, Any], prefix: str = "", *, verbatim: bool = False) -> Iterator[tuple[str, str]]:
    for name, value in section.items():
        label = prefix + (name if verbatim or name == "lumigator_nb" else name.replace("_", " "))
        if name == "versions":
            yield from _facts(value, verbatim=True)
        elif isinstance(value, Mapping):
            yield from _facts(value, f"{label} ")
        else:
            yield label, value_text(value)


def value_text(value: object) -> str:
    """Return a recorded value as text; a long hash by its beginning."""
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return "; ".join(map(str, value))
    text = str(value)
    is_hash = len(text) in (40, 64) and all(letter in "0123456789abcdef" for letter in text)
    return f"{text[:_HASH_LENGTH]}…" if is_hash else text


def _title(provenance: Provenance) -> str:
    workflow = provenance.workflow
    return f"Provenance of {one_line(workflow['label'])} in {one_line(workflow['experiment'])}"


@render.as_text.register
def _as_text(provenance: Provenance) -> str:
    """Return the provenance as aligned columns."""
    rows = _rows(provenance)
    width, whats = max(map(len, _SECTIONS.values())), max((len(what) for _, what, _ in rows), default=0)
    lines = [f"  {section:<{width}}  {what:<{whats}}  {one_line(value)}" for section, what, value in rows]
    return "\n".join([_title(provenance), *lines])


@render.as_html.register
def _as_html(provenance: Provenance) -> str:
    """Return the provenance as one table."""
    rows = [(section, what, clipped(value)) for section, what, value in _rows(provenance)]
    return fragment(tag("div", _title(provenance), class_="lm-title"), table(["", "What", "Value"], rows))
