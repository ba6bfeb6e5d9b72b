"""Integrity of the database: rows that contradict each other, and secrets that cannot be decrypted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa
from sqlmodel import SQLModel, col, select

from lumigator_nb.database.engine import Database
from lumigator_nb.database.queries import UnitOfWork, reading
from lumigator_nb.database.records import Dataset, Experiment, Job, Label, Workflow
from lumigator_nb.errors import ConfigurationError, SecretError
from lumigator_nb.services.access.secrets import Secrets
from lumigator_nb.specs import Step

Repair = Literal["gc", "refresh", "resume", "evaluate", ""]


@dataclass(frozen=True)
class Fault:
    """A contradiction in what is stored.

    Attributes:
        where: name of the dataset, experiment or workflow, or a file.
        what: the contradiction, in words.
        remedy: what to do about it.
        repaired_by: "gc", "refresh", "resume" or "evaluate" if that command repairs it, else "".
    """

    where: str
    what: str
    remedy: str
    repaired_by: Repair = ""

    @property
    def mended_by(self) -> Repair:
        """The name of `repaired_by` in version 0.1."""
        return self.repaired_by


def faults_of_rows(database: Database) -> Iterator[Fault]:
    """Yield references to missing rows, workflows that lack a step, and labels on missing rows or models."""
    with reading(database) as work:
        for child, column, parent in _REFERENCES:
            yield from _dangling(work, child, column, parent)
        yield from _without_jobs(work)
        yield from _stray_labels(work)


def _dangling(work: UnitOfWork, child: type[SQLModel], column: Any, parent: type[SQLModel]) -> Iterator[Fault]:
    has_parent = select(parent).where(col(getattr(parent, "id")) == column).exists()  # noqa: B009
    n = work.session.exec(select(sa.func.count()).select_from(child).where(~has_parent)).one()
    if n:
        remedy = "the database was changed by another program, or only partly restored: restore it from a backup"
        what = f"{n:,} rows refer to a {parent.__name__.lower()} that does not exist"
        yield Fault(f"table {child.__name__.lower()}", what, remedy)


def _without_jobs(work: UnitOfWork) -> Iterator[Fault]:
    jobs = select(sa.func.count()).where(col(Job.workflow_id) == col(Workflow.id)).scalar_subquery()
    for workflow_id, label in work.session.exec(select(Workflow.id, Workflow.label).where(jobs != len(Step))):
        what = "it lacks the row of one of its steps"
        yield Fault(f"{label} ({workflow_id})", what, "restore the database from a backup, or delete the experiment")


def _stray_labels(work: UnitOfWork) -> Iterator[Fault]:
    """Yield labels on rows that the dataset does not have, or on models that the experiment does not have."""
    size = select(Dataset.n_examples).join(Experiment).where(col(Experiment.id) == col(Label.experiment_id))
    beyond = (col(Label.row) < 0) | (col(Label.row) >= size.scalar_subquery())
    unknown = _unknown(col(Label.model)) | ((col(Label.other) != "") & _unknown(col(Label.other)))
    for condition, what in ((beyond, "rows that the dataset does not have"), (unknown, "models that it does not have")):
        counts = select(Experiment.name, sa.func.count()).join(Label).where(condition).group_by(col(Experiment.name))
        for name, n in work.session.exec(counts):
            yield Fault(f"experiment {name!r}", f"{n:,} labels are on {what}", "delete them: ws.labels shows them")


def _unknown(label: Any) -> Any:
    same = (col(Workflow.experiment_id) == col(Label.experiment_id)) & (col(Workflow.label) == label)
    return ~select(Workflow.id).where(same).correlate(Label).exists()


_REFERENCES: tuple[tuple[type[SQLModel], Any, type[SQLModel]], ...] = (
    (Experiment, Experiment.dataset_id, Dataset),
    (Workflow, Workflow.experiment_id, Experiment),
    (Job, Job.workflow_id, Workflow),
    (Label, Label.experiment_id, Experiment),
)


def faults_of_secrets(secrets: Secrets) -> Iterator[Fault]:
    """Yield the secrets that cannot be opened with the keys here; no value is shown."""
    for name in secrets.names():
        try:
            secrets.value(name)
        except (ConfigurationError, SecretError) as error:
            yield Fault(
                f"secret {name}", error.message, error.hint or f"lumigator-nb secrets delete {name}; set it again"
            )
