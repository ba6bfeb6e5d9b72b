"""Exporting an experiment into one archive.

The archive is a ZIP file whose members are stored uncompressed: what is large is compressed Parquet already, nothing
can grow when it is opened, and the bytes do not depend on the compressor that Python was built with.
"""

from __future__ import annotations

import hashlib
import io
import platform
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, get_args

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
from lumigator_nb.services.sharing import manifest as format_
from lumigator_nb.services.sharing.manifest import DataMode, Manifest, Member
from lumigator_nb.services.sharing.reading import CHUNK
from lumigator_nb.services.sharing.safety import refuse_secret_fields, refuse_secret_values, without_code
from lumigator_nb.specs import MetricResult, MetricSpec, Step, Value
from lumigator_nb.storage import layout
from lumigator_nb.storage.store import Store

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time of the ZIP format
_PACKAGES = ("ray", "numpy", "pandas", "pyarrow", "scipy", "sacrebleu", "nltk", "torch", "transformers", "bert-score")
_LABELS_AT_ONCE = 1000


def export(
    database: Database,
    store: Store,
    experiment: Experiment | str,
    path: str | Path,
    *,
    data: DataMode = "full",
    secrets: Mapping[str, str] | None = None,
    progress: bool = True,
) -> Path:
    """Write an experiment, with all that its comparison needs, into one file; the same one twice gives the same bytes.

    An existing file is replaced once the new one is complete. Pickled functions stay behind.

    Args:
        experiment: record, name or id.
        path: of the file; the ending ".lumi.zip" says what it is.
        data: "full", or "hash" to leave out the examples and what shows them: the preview and the prompts as sent.
            To load such a file, one needs the dataset. Answers may still quote it.
        secrets: value by name, besides those of the environment; a file that would hold one is refused.
        progress: show the progress if it takes longer.

    Returns:
        The path.

    Raises:
        NotFoundError: there is no such experiment, or its files changed meanwhile.
        InvalidInputError: the path cannot be written, or a setting holds a secret.
        DamagedError: the dataset's file is not the one that was uploaded, or another file is malformed.
    """
    if data not in get_args(DataMode):
        raise InvalidInputError(f"data cannot be {data!r}", "'full', or 'hash' to leave the examples out")
    target = Path(path).expanduser()
    with reading(database) as work:
        record = work.experiments.get(experiment)
        dataset = work.datasets.get(record.dataset_id)
        workflows = work.workflows.of_experiment(record.id)
        jobs = work.jobs.of_workflows([workflow.id for workflow in workflows])
    by_step = {(job.workflow_id, job.step): job for job in jobs}
    metrics = tuple(without_code(spec) for spec in record.metrics)
    # Copying may take long: the database is asked only for what is not yet in memory, the labels.
    with (
        _replaced(target) as file,
        zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive,
        metered(target.name, enabled=progress) as meter,
    ):
        exporter = _Exporter(store, archive, redactor(secrets or {}), meter, data)
        try:
            exporter.write_dataset(dataset)
            exporter.write_experiment(record, metrics)
            exporter.write_labels(database, record)
            for index, workflow in enumerate(workflows):
                steps = [by_step[workflow.id, step] for step in Step if (workflow.id, step) in by_step]
                exporter.write_workflow(index, workflow, steps, metrics)
            exporter.write_manifest()
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise DamagedError(f"what is stored of {record.name!r} is malformed, at {where}: {first['msg']}") from None
    return target


class _Exporter:
    """Writes the members in the order of their names, and hashes them on the way."""

    def __init__(self, store: Store, archive: zipfile.ZipFile, redact: Redactor, meter: Meter, data: DataMode) -> None:
        self._store, self._archive, self._redact, self._meter, self._data = store, archive, redact, meter, data
        self._members: list[Member] = []
        self._times: list[datetime] = []

    def _write(self, name: str, chunks: Iterable[bytes]) -> None:
        info = zipfile.ZipInfo(name, _EPOCH)
        # The same on every operating system: a plain file with the usual permissions, made on Unix.
        info.create_system, info.external_attr = 3, 0o644 << 16
        digest, size = hashlib.sha256(), 0
        with self._archive.open(info, "w", force_zip64=True) as file:
            for chunk in chunks:
                file.write(chunk)
                digest.update(chunk)
                size += len(chunk)
                self._meter.add(len(chunk))
        self._members.append(Member(name=name, size=size, sha256=digest.hexdigest()))

    def _write_value(self, name: str, value: Value) -> None:
        text = value.model_dump_json(indent=2)
        refuse_secret_values(name, text, self._redact)
        self._write(name, [text.encode()])

    def write_dataset(self, dataset: Dataset) -> None:
        shared = format_.SharedDataset.model_validate(dataset, from_attributes=True)
        if self._data == "hash":
            profile = {name: value for name, value in dataset.profile.items() if name != "preview"}
            self._write_value(format_.DATASET, shared.model_copy(update={"profile": profile, "notes": []}))
            return
        self._write_value(format_.DATASET, shared)
        self._write_file(format_.EXAMPLES, layout.examples(dataset.id))
        if dataset.data_hash and self._members[-1].sha256 != dataset.data_hash:
            raise DamagedError(
                f"the examples of dataset {dataset.name!r} are not those that were uploaded", "upload the file again"
            )
        original = layout.original(dataset.id, dataset.filename)
        if self._store.exists(original):
            self._write_file(format_.ORIGINAL + layout.safe_filename(dataset.filename), original)

    def write_experiment(self, experiment: Experiment, metrics: tuple[MetricSpec, ...]) -> None:
        shared = format_.SharedExperiment.model_validate(experiment, from_attributes=True)
        shared = shared.model_copy(update={"metrics": metrics})
        refuse_secret_fields("the experiment", shared.model_dump(mode="json"))
        self._times.append(experiment.created_at)
        self._write_value(format_.EXPERIMENT, shared)

    def write_labels(self, database: Database, experiment: Experiment) -> None:
        def lines(labels: Iterable[Label]) -> Iterator[bytes]:
            for label in labels:
                self._times.append(max(self._times.pop(), label.created_at))
                text = format_.SharedLabel.model_validate(label, from_attributes=True).model_dump_json()
                refuse_secret_values(format_.LABELS, text, self._redact)
                yield text.encode() + b"\n"

        query = select(Label).where(Label.experiment_id == experiment.id).order_by(col(Label.id))
        with reading(database) as work:
            self._write(format_.LABELS, lines(work.session.exec(query.execution_options(yield_per=_LABELS_AT_ONCE))))

    def write_workflow(
        self, index: int, workflow: Workflow, jobs: Sequence[Job], metrics: tuple[MetricSpec, ...]
    ) -> None:
        fields = {name: getattr(workflow, name) for name in format_.SharedWorkflow.model_fields if name != "jobs"}
        shared_jobs = tuple(format_.SharedJob.model_validate(job, from_attributes=True) for job in jobs)
        record = format_.SharedWorkflow(**fields, jobs=shared_jobs)
        refuse_secret_fields(f"model {record.label!r}", record.model_dump(mode="json", include={"model", "launch"}))
        self._times += [time for time in (workflow.created_at, workflow.attempted_at, workflow.finished_at) if time]
        members = {stored: name for name, stored in format_.stored_names(workflow.id, metrics).items()}
        stored_files = self._store.list(layout.workflow_folder(workflow.id))
        sources = {name: file for file in stored_files if (name := format_.translated(file, members))}
        for name in sorted([*sources, "workflow.json"]):
            member, folder = format_.in_workflow(index, name), name.rpartition("/")[0]
            if name == "workflow.json":
                self._write_value(member, record)
            # A worker may replace the scores of a metric at any moment until its result is there.
            elif folder in ("", "predictions", "scores/all") or f"{folder}/result.json" in sources:
                self._write_file(member, sources[name])

    def write_manifest(self) -> None:
        as_of, members = max(self._times), tuple(self._members)
        manifest = Manifest(data=self._data, as_of=as_of, made_by=_versions(), members=members)
        self._write_value(format_.MANIFEST, manifest)

    def _write_file(self, name: str, stored: str) -> None:
        try:
            if "/scores/" in name and name.endswith("/result.json"):
                result = MetricResult.model_validate_json(self._store.read(stored))
                self._write_value(name, result.model_copy(update={"metric": without_code(result.metric)}))
            elif name.endswith(".json"):
                content = self._store.read(stored)
                # An uploaded file may have any encoding; its bytes stay as they are.
                refuse_secret_values(name, content.decode(errors="replace"), self._redact)
                self._write(name, [content])
            elif "/predictions/" in name and self._data == "hash":
                self._write(name, [self._without_prompts(stored)])
            else:
                with self._store.reading(stored) as file:
                    self._write(name, iter(lambda: file.read(CHUNK), b""))
        except NotFoundError as error:
            raise NotFoundError("file", stored, "it changed while it was exported; export it again") from error

    def _without_prompts(self, stored: str) -> bytes:
        with self._store.reading(stored) as file:
            table = pq.read_table(file)
        if "prompt" in table.column_names:
            place = table.column_names.index("prompt")
            table = table.set_column(place, "prompt", pa.nulls(len(table), pa.string()))
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd", write_page_checksum=True)
        return buffer.getvalue()


def _versions() -> dict[str, str]:
    versions = {"lumigator_nb": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


@contextmanager
def _replaced(target: Path) -> Iterator[IO[bytes]]:
    """Open a file beside `target`; it replaces `target` if the block succeeds, and is removed otherwise."""
    if target.is_dir() or not target.parent.is_dir():
        raise InvalidInputError(
            f"{target} is a folder" if target.is_dir() else f"there is no folder {target.parent}",
            "name a file in an existing folder, such as 'x.lumi.zip'",
        )
    try:
        with whole_file(target) as file:
            yield file
    except OSError as error:
        raise InvalidInputError(f"cannot write {target}: {error.strerror or error}", "choose another folder") from error
