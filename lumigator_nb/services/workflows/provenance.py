"""Where a result comes from: who launched it, when, on what data, with what code, and what the worker used.

What the launching process knows is written into :attr:`Workflow.provenance` at each attempt; what only the worker
knows (the model's revision, the device, versions on the cluster) is in the details of the jobs. :func:`of` joins both.
No secret, variable of the environment or path of this machine is part of it.
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
from lumigator_nb.database.record_views import TALLIED, shown_options, without_secrets
from lumigator_nb.database.records import Dataset, Experiment, Job, Workflow, key_of
from lumigator_nb.display import render
from lumigator_nb.display.html import clipped, fragment, table, tag, unfolding
from lumigator_nb.display.render import Rendered
from lumigator_nb.display.text import MISSING, one_line
from lumigator_nb.engine import steps
from lumigator_nb.errors import NotFoundError
from lumigator_nb.specs import Model, Step, Task, digest, now

GIT_TIMEOUT_S = 2.0
MOST_EARLIER = 20

# Of what the worker noted, what counts answers or says how fast they came, and not by what.
_COUNTS = TALLIED | {
    "shards_reused", "retries", "most_at_once", "n_scored", "unscored", "n_empty", "failed_metrics", "priced",
    "traceback",
}  # fmt: skip


@dataclass(frozen=True)
class Provenance(Rendered):
    """Where the result of a workflow comes from. What was not noted at the time is missing, never guessed.

    Attributes:
        workflow: `id`, `label`, `experiment`, `attempt` (the latest), `status`.
        launch: `user`, `host`, `when` (UTC, ISO 8601) of the latest attempt.
        git: of the folder it was launched from: `commit`, `branch`, `dirty` (whether tracked files were changed),
            `remote`; empty where that was no repository.
        dataset: `id`, `name`, `version`, `content_hash` (of the upload), `data_hash` (of the normalised file); and
            `sample` (`n`, `of`, `seed`) where only some of its rows were used.
        asked: `model` (provider/name), `fingerprint`, `prompt` (hash of the task), `seed`, and the model's settings.
        versions: of Python, the platform and packages where it was launched.
        inference, evaluation: what the worker noted of either step: revision, device, versions there.
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
    """Something that is not as it was; None where it was not noted."""

    what: str
    before: Any
    after: Any


class Circumstances:
    """What a launch writes down, asked once for all workflows of it."""

    def __init__(self, subjects: Mapping[str, tuple[Experiment, Dataset]]) -> None:
        self._subjects = subjects
        self._launch = {"user": _user(), "host": socket.gethostname(), "when": now().isoformat(timespec="seconds")}
        self._git = git_state()
        self._versions: dict[tuple[str, str, str], dict[str, str]] = {}

    def of(self, workflow: Workflow) -> dict[str, Any]:
        """Return what is to be recorded of the workflow's current attempt; earlier ones are kept in short."""
        experiment, dataset = self._subjects[workflow.experiment_id]
        noted = {
            "attempt": workflow.attempt,
            "launch": self._launch,
            "git": self._git,
            "dataset": _dataset(dataset),
            "asked": steps.without_home(_asked(workflow.model, experiment.task)),
            "versions": self._versions_of(workflow.model, experiment),
            "earlier": _earlier(workflow.provenance),
        }
        return {name: value for name, value in noted.items() if value}

    def _versions_of(self, model: Model, experiment: Experiment) -> dict[str, str]:
        """To look them up takes longer than all else, and they are the same for all models of a provider."""
        key = experiment.id, model.provider, str(model.options.get("import"))
        if key not in self._versions:
            self._versions[key] = versions_here(model, experiment)
        return self._versions[key]


def circumstances(database: Database, experiment_ids: Collection[str]) -> Circumstances:
    """Return what launches in these experiments write down; asks git, so no transaction should be open meanwhile."""
    with reading(database) as work:
        experiments = [work.experiments.get(each) for each in set(experiment_ids)]
        subjects = {each.id: (each, work.data_of(each)) for each in experiments}
    return Circumstances(subjects)


def of(database: Database, workflow: Workflow | str) -> Provenance:
    """Return where a workflow's result comes from, as it is recorded now.

    Args:
        workflow: record or id.

    Raises:
        NotFoundError: there is no such workflow.
    """
    key = key_of(workflow)
    with reading(database) as work:
        record = work.workflows.find(key)
        if record is None:
            raise NotFoundError("workflow", key, "ws.workflows.list() shows those that are there")
        experiment = work.experiments.get(record.experiment_id)
        dataset = work.data_of(experiment)
        jobs = {job.step: job for job in work.jobs.of_workflows([record.id])}
    return _joined(record, experiment, dataset, jobs)


def changes(before: Provenance, after: Provenance) -> tuple[Change, ...]:
    """Return what may have changed answers or scores: data, question, model, device, versions, code, host.

    Names, times and people do not count. What only one of the two noted is no change.
    """
    old, new = dict(_comparable(before)), dict(_comparable(after))
    return tuple(Change(what, old[what], new[what]) for what in old if what in new and old[what] != new[what])


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
    found = {
        "commit": _unless("(initial)", heads.get("branch.oid")),
        "branch": _unless("(detached)", heads.get("branch.head")),
        "dirty": any(not line.startswith("#") for line in lines),
        "remote": public_address(_git("config", "--get", "remote.origin.url") or ""),
    }
    return {name: value for name, value in found.items() if value is not None}


def public_address(remote: str) -> str | None:
    """Return a remote's address without user, password and parameters; None for a folder, which says who and where."""
    address = remote.strip()
    if re.match(r"(?!file:)[\w+.-]{2,}://", address, re.IGNORECASE):
        return without_secrets(address)
    # git@host:path, as ssh takes it; one letter before the colon is a drive.
    found = re.fullmatch(r"(?:[^/\\\s]*@)?([\w.-]{2,}:[^\\\s:@?#]+)", address)
    return found[1] if found and not address.lower().startswith("file:") else None


def _git(*arguments: str) -> str | None:
    # No lock that would disturb the user's own git, and no program that a repository's settings name.
    command = ["git", "--no-optional-locks", "-c", "core.fsmonitor=false", *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, stdin=subprocess.DEVNULL, timeout=GIT_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace") if done.returncode == 0 else None


def _user() -> str | None:
    # It raises ImportError, KeyError or OSError, by platform and version of Python, where nobody has the user's number.
    with suppress(Exception):
        return getpass.getuser()
    return None


def _unless(special: str, text: str | None) -> str | None:
    return None if text == special else text


def _dataset(dataset: Dataset) -> dict[str, Any]:
    found = dataset.model_dump(include={"id", "name", "version", "content_hash", "data_hash"})
    known = {name: found[name] for name in ("id", "name", "version", "content_hash", "data_hash") if found[name]}
    return known if dataset.sample is None else {**known, "sample": dataset.sample.model_dump(mode="json")}


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


def _earlier(before: Mapping[str, Any]) -> list[dict[str, Any]]:
    kept = [*before.get("earlier", ())]
    if "launch" in before:
        kept.append({name: before[name] for name in ("attempt", "launch", "git", "versions") if before.get(name)})
    return kept[-MOST_EARLIER:]


def _joined(record: Workflow, experiment: Experiment, dataset: Dataset, jobs: Mapping[Step, Job]) -> Provenance:
    noted = record.provenance
    # What earlier versions noted may name the home folder.
    inference, evaluation = (steps.without_home(jobs[step].details) if step in jobs else {} for step in Step)
    return Provenance(
        workflow={
            "id": record.id,
            "label": steps.without_home(record.label),
            "experiment": experiment.name,
            "attempt": record.attempt,
            "status": str(record.status),
        },
        launch=noted.get("launch", {}),
        git=noted.get("git", {}),
        # Neither changes after the launch, so that rows tell it too where nothing was noted yet.
        dataset={**_dataset(dataset), **noted.get("dataset", {})},
        asked={**_asked(record.model, experiment.task), **noted.get("asked", {})},
        versions=noted.get("versions", {}),
        inference=_without_counts(inference),
        evaluation=_without_counts({name: value for name, value in evaluation.items() if name != "signatures"}),
        metrics=dict(evaluation.get("signatures", {})),
        earlier=tuple(noted.get("earlier", ())),
    )


def _without_counts(details: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in details.items() if name not in _COUNTS and value not in (None, "", [], {})}


def _comparable(known: Provenance) -> Iterator[tuple[str, Any]]:
    """What may matter, by a name that a reader understands; the same from one provenance to the next."""
    yield from (
        (f"dataset {name}", known.dataset[name])
        for name in ("content_hash", "data_hash", "sample")
        if name in known.dataset
    )
    yield from ((name, known.asked[name]) for name in ("prompt",) if name in known.asked)
    yield from ((f"signature of {title}", text) for title, text in known.metrics.items())
    yield from ((f"git {name}", known.git[name]) for name in ("commit", "dirty") if name in known.git)
    yield from ((name, known.launch[name]) for name in ("host",) if name in known.launch)
    # Versions of where the work was done; those of where it was launched only where the worker noted none.
    yield from known.versions.items()
    for section in (known.evaluation, known.inference):
        yield from section.get("versions", {}).items()
        yield from ((name, value) for name, value in section.items() if name != "versions")


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
_VERBATIM = ("lumigator_nb",)
_HASH_LENGTH = 16


@render.as_text.register
def _as_text(provenance: Provenance) -> str:
    """Return where a result comes from as aligned lines, section by section."""
    lines = [_title(provenance)]
    for heading, facts in _sections(provenance):
        lines.append(f"  {heading}")
        width = max(len(label) for label, _ in facts)
        lines += [f"    {label:<{width}}  {one_line(text)}" for label, text in facts]
    return "\n".join(lines)


@render.as_html.register
def _as_html(provenance: Provenance) -> str:
    """Return where a result comes from as tables that unfold."""
    parts = [
        unfolding(
            heading, table(["What", "Value"], [[label, clipped(text)] for label, text in facts]), open_=number < 4
        )
        for number, (heading, facts) in enumerate(_sections(provenance))
    ]
    return fragment(tag("div", _title(provenance), class_="lm-title"), *parts)


def _title(provenance: Provenance) -> str:
    known = provenance.workflow
    return f"Provenance of {one_line(known['label'])} in {one_line(known['experiment'])}"


def _sections(provenance: Provenance) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    for name, heading in _SECTIONS.items():
        section = getattr(provenance, name)
        facts = list(_facts({"versions": section} if name in ("versions", "metrics") else section))
        if facts:
            yield heading, facts
    if provenance.earlier:
        yield "Earlier", [(f"attempt {each.get('attempt', '?')}", _launch(each)) for each in provenance.earlier]


def _facts(section: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for name, value in section.items():
        label = before + (name if name in _VERBATIM else name.replace("_", " "))
        if name == "versions":
            yield from ((package, str(number)) for package, number in value.items())
        elif isinstance(value, Mapping):
            yield from _facts(value, f"{label} ")
        else:
            yield label, value_text(value)


def _launch(earlier: Mapping[str, Any]) -> str:
    known = earlier.get("launch", {})
    version = earlier.get("versions", {}).get("lumigator_nb")
    parts = [known.get("when"), known.get("user"), known.get("host"), f"lumigator_nb {version}" if version else None]
    return ", ".join(str(part) for part in parts if part)


def value_text(value: object) -> str:
    """Return a noted value as text; a long hash by its beginning."""
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return "; ".join(map(str, value))
    text = str(value)
    is_hash = len(text) in (40, 64) and all(letter in "0123456789abcdef" for letter in text)
    return f"{text[:_HASH_LENGTH]}…" if is_hash else text
