"""Writing an experiment into one file.

The file is a ZIP archive whose members are stored as they are: what is large in it is compressed already, nothing can
grow when it is opened, and the same experiment gives the same bytes whatever compressor Python was built with.
"""

from __future__ import annotations

import hashlib
import io
import platform
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any, get_args

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError
from sqlmodel import col, select

from lumigator_nb._version import __version__
from lumigator_nb.database.engine import Database
from lumigator_nb.database.queries import reading
from lumigator_nb.database.records import Dataset, Experiment, Job, Label, Workflow
from lumigator_nb.display.meter import Meter, metered
from lumigator_nb.errors import DamagedError, InvalidInputError, NotFoundError
from lumigator_nb.files import whole_file
from lumigator_nb.security.redaction import Redactor, redactor
from lumigator_nb.services.sharing import manifest as parts
from lumigator_nb.services.sharing.safety import refuse_secret_fields, refuse_secret_values, without_code
from lumigator_nb.specs import MetricResult, Step, Value
from lumigator_nb.storage import layout
from lumigator_nb.storage.store import Store

CHUNK = 1 << 20
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that the format knows
_PACKAGES = ("ray", "numpy", "pandas", "pyarrow", "scipy", "sacrebleu", "nltk", "torch", "transformers", "bert-score")
_LABELS_AT_ONCE = 1000


@dataclass(frozen=True)
class _Records:
    dataset: Dataset
    experiment: Experiment
    workflows: Sequence[Workflow]
    jobs: Mapping[str, Sequence[Job]]


def export(
    database: Database,
    store: Store,
    experiment: Experiment | str,
    path: str | Path,
    *,
    data: parts.DataMode = "full",
    secrets: Mapping[str, str] | None = None,
    progress: bool = True,
) -> Path:
    """Write an experiment, with all that its comparison needs, into one file; the same one twice gives the same bytes.

    A file that is there already is replaced once the new one is whole. Pickled functions stay behind.

    Args:
        experiment: record, name or id.
        path: of the file; "x.lumi.zip" tells what it is.
        data: "full", or "hash" to leave the examples out, with what shows them: the preview and the prompts as sent.
            Whoever loads such a file needs the dataset. Answers may still quote it.
        secrets: value by name, besides those of the environment; a file that would hold one is refused.
        progress: show how far it is, where it takes longer.

    Returns:
        The path.

    Raises:
        NotFoundError: there is no such experiment, or its files changed meanwhile.
        InvalidInputError: the path cannot be written, or a setting holds a secret.
        DamagedError: the dataset's file is not the one that was uploaded, or another one is malformed.
    """
    if data not in get_args(parts.DataMode):
        raise InvalidInputError(f"data cannot be {data!r}", "'full', or 'hash' to leave the examples out")
    target = Path(path).expanduser()
    with reading(database) as work:
        record = work.experiments.get(experiment)
        workflows = work.workflows.of_experiment(record.id)
        jobs = work.jobs.of_workflows([workflow.id for workflow in workflows])
        by_workflow = {each.id: [job for job in jobs if job.workflow_id == each.id] for each in workflows}
        records = _Records(work.datasets.get(record.dataset_id), record, workflows, by_workflow)
    with (
        _replaced(target) as file,
        zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive,
        metered(target.name, enabled=progress) as meter,
    ):
        package = _Package(archive, redactor(secrets or {}), meter)
        try:
            _Exporter(database, store, records, data, package).write()
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise DamagedError(f"what is stored of {record.name!r} is malformed, at {where}: {first['msg']}") from None
    return target


class _Package:
    """The archive being written; its members are hashed on the way."""

    def __init__(self, archive: zipfile.ZipFile, redact: Redactor, meter: Meter) -> None:
        self._zip, self._redact, self._meter = archive, redact, meter
        self.members: list[parts.Member] = []

    def add_json(self, name: str, value: Value) -> None:
        self.add_text(name, value.model_dump_json(indent=2))

    def add_text(self, name: str, text: str) -> None:
        refuse_secret_values(name, text, self._redact)
        self.add(name, io.BytesIO(text.encode()))

    def add_lines(self, name: str, values: Iterable[Value]) -> None:
        with self.adding(name) as write:
            for value in values:
                text = value.model_dump_json()
                refuse_secret_values(name, text, self._redact)
                write(text.encode() + b"\n")

    def add(self, name: str, source: IO[bytes]) -> None:
        with self.adding(name) as write:
            while chunk := source.read(CHUNK):
                write(chunk)

    @contextmanager
    def adding(self, name: str) -> Iterator[Any]:
        """Begin a member; yield what takes its bytes."""
        info = zipfile.ZipInfo(name, _EPOCH)
        info.create_system, info.external_attr = 3, 0o644 << 16  # the same on every operating system
        digest, size = hashlib.sha256(), 0
        with self._zip.open(info, "w", force_zip64=True) as file:

            def write(chunk: bytes) -> None:
                nonlocal size
                file.write(chunk)
                digest.update(chunk)
                size += len(chunk)
                self._meter.add(len(chunk))

            yield write
        self.members.append(parts.Member(name=name, size=size, sha256=digest.hexdigest()))

    def add_manifest(self, data: parts.DataMode, as_of: datetime) -> None:
        table = parts.Manifest(data=data, as_of=as_of, made_by=_versions(), members=tuple(self.members))
        self.add_json(parts.MANIFEST, table)


class _Exporter:
    """Puts everything into the package, in the order of the members' names."""

    def __init__(
        self, database: Database, store: Store, records: _Records, data: parts.DataMode, package: _Package
    ) -> None:
        self._database, self._store, self._records = database, store, records
        self._whole, self._data, self._package = data == "full", data, package
        self._metrics = tuple(without_code(spec) for spec in records.experiment.metrics)
        self._times = [records.experiment.created_at]

    def write(self) -> None:
        self._dataset()
        experiment = parts.SharedExperiment(
            **_fields(self._records.experiment, parts.SharedExperiment, metrics=self._metrics)
        )
        refuse_secret_fields("the experiment", experiment.model_dump(mode="json"))
        self._package.add_json(parts.EXPERIMENT, experiment)
        self._package.add_lines(parts.LABELS, self._labels())
        for index, workflow in enumerate(self._records.workflows):
            self._workflow(index, workflow)
        self._package.add_manifest(self._data, max(self._times))

    def _dataset(self) -> None:
        dataset = parts.SharedDataset(**_fields(self._records.dataset, parts.SharedDataset))
        if not self._whole:
            profile = {name: value for name, value in dataset.profile.items() if name != "preview"}
            dataset = dataset.model_copy(update={"profile": profile, "notes": []})
        self._package.add_json(parts.DATASET, dataset)
        if not self._whole:
            return
        self._file(parts.EXAMPLES, layout.examples(dataset.id))
        if dataset.data_hash and self._package.members[-1].sha256 != dataset.data_hash:
            raise DamagedError(
                f"the examples of dataset {dataset.name!r} are not those that were uploaded", "upload the file again"
            )
        original = layout.original(dataset.id, dataset.filename)
        if self._store.exists(original):
            self._file(parts.original(dataset.filename), original)

    def _workflow(self, index: int, workflow: Workflow) -> None:
        jobs = sorted(self._records.jobs[workflow.id], key=lambda job: list(Step).index(job.step))
        record = parts.SharedWorkflow(
            **_fields(workflow, parts.SharedWorkflow, jobs=[_fields(job, parts.SharedJob) for job in jobs])
        )
        refuse_secret_fields(f"model {record.label!r}", record.model_dump(mode="json", include={"model", "launch"}))
        self._times += [time for time in (record.created_at, record.attempted_at, record.finished_at) if time]
        stored = self._store.list(layout.workflow_folder(workflow.id))
        found = {parts.member_of(name, workflow.id, self._metrics): name for name in stored}
        names = {parts.of_workflow(index, name): source for name, source in found.items() if name}
        own = parts.of_workflow(index, "workflow.json")
        for name in sorted([*names, own]):
            if name == own:
                self._package.add_json(name, record)
            elif self._belongs(name, names):
                self._file(name, names[name])

    @staticmethod
    def _belongs(name: str, names: Mapping[str, str]) -> bool:
        """Scores count once their metric's result is there; before that they may be replaced any moment."""
        folder = name.rpartition("/")[0]
        return "/scores/" not in name or folder.endswith("/all") or f"{folder}/result.json" in names

    def _file(self, name: str, stored: str) -> None:
        try:
            if name.endswith(".json"):
                self._document(name, self._store.read(stored))
            elif "/predictions/" in name and not self._whole:
                self._package.add(name, self._without_prompts(stored))
            else:
                with self._store.reading(stored) as file:
                    self._package.add(name, file)
        except NotFoundError as error:
            raise NotFoundError("file", stored, "it changed while it was exported; export it again") from error

    def _document(self, name: str, content: bytes) -> None:
        if not name.endswith("/result.json"):
            self._package.add_text(name, content.decode())
            return
        result = MetricResult.model_validate_json(content)
        self._package.add_json(name, result.model_copy(update={"metric": without_code(result.metric)}))

    def _without_prompts(self, stored: str) -> IO[bytes]:
        with self._store.reading(stored) as file:
            table = pq.read_table(file)
        if "prompt" in table.column_names:
            place = table.column_names.index("prompt")
            table = table.set_column(place, "prompt", pa.nulls(len(table), pa.string()))
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd", write_page_checksum=True)
        buffer.seek(0)
        return buffer

    def _labels(self) -> Iterator[parts.SharedLabel]:
        query = select(Label).where(Label.experiment_id == self._records.experiment.id).order_by(col(Label.id))
        with reading(self._database) as work:
            for label in work.session.exec(query.execution_options(yield_per=_LABELS_AT_ONCE)):
                self._times.append(max(self._times.pop(), label.created_at))
                yield parts.SharedLabel(**_fields(label, parts.SharedLabel))


def _fields(record: Any, kind: type[Value], **instead: Any) -> dict[str, Any]:
    return {name: instead[name] if name in instead else getattr(record, name) for name in kind.model_fields}


def _versions() -> dict[str, str]:
    found = {"lumigator_nb": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@contextmanager
def _replaced(target: Path) -> Iterator[IO[bytes]]:
    """Open a file beside `target` that takes its place when the block ends well, and is gone otherwise."""
    if target.is_dir() or not target.parent.is_dir():
        raise InvalidInputError(
            f"{target} is a folder" if target.is_dir() else f"there is no folder {target.parent}",
            "name a file in a folder that is there, such as 'x.lumi.zip'",
        )
    try:
        with whole_file(target) as file:
            yield file
    except OSError as error:
        raise InvalidInputError(f"cannot write {target}: {error.strerror or error}", "choose another folder") from error
