"""What is still to be removed of what was deleted; jobs that never began end with their workflow.

Revision: 0007
Follows: 0006
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

ENDED = ("succeeded", "failed", "stopped")


def upgrade() -> None:
    op.create_table(
        "removal",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("active", sa.JSON(), nullable=False),
        sa.Column("names", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_removal"),
    )
    _end_jobs()
    _mark_copies()


def downgrade() -> None:
    """Files that were still to be removed are found by ``lumigator-nb gc``."""
    op.drop_table("removal")


def _end_jobs() -> None:
    """Earlier versions left the jobs after a failed one as they were created, and programs wait for their end."""
    workflow = sa.table("workflow", sa.column("id"), sa.column("status"))
    job = sa.table("job", *map(sa.column, ("id", "workflow_id", "step", "status", "error")))
    first = job.alias()
    query = (
        sa.select(job.c.id, job.c.step, workflow.c.status, first.c.error)
        .join(workflow, workflow.c.id == job.c.workflow_id)
        .join(first, sa.and_(first.c.workflow_id == workflow.c.id, first.c.step == "inference"))
        .where(workflow.c.status.in_(ENDED), job.c.status.not_in(ENDED))
    )
    connection = op.get_bind()
    for key, step, status, error in connection.execute(query).all():
        said = "was stopped" if status == "stopped" else "failed"
        why = f"the inference {said}" + (f": {error}" if error else "")
        values = {"status": status, "error": why if step == "evaluation" else error}
        connection.execute(sa.update(job).where(job.c.id == key).values(values))


def _mark_copies() -> None:
    """Mark the datasets that earlier versions drew for requests with `max_samples`."""
    dataset = sa.table("dataset", sa.column("id"), sa.column("n_examples"), sa.column("derived", sa.JSON))
    columns = (sa.column("dataset_id"), sa.column("sample", sa.JSON), sa.column("asked", sa.JSON))
    experiment = sa.table("experiment", *columns)
    connection = op.get_bind()
    drawn = [row for row in connection.execute(sa.select(dataset)).all() if (row.derived or {}).get("how") == "draw"]
    for row in drawn:
        query = sa.select(experiment).where(experiment.c.dataset_id == row.id)
        if _is_copy(row.n_examples, connection.execute(query).all()):
            derived = {**row.derived, "for": "max_samples"}
            connection.execute(sa.update(dataset).where(dataset.c.id == row.id).values(derived=derived))


def _is_copy(n_examples: int, users: Sequence[sa.Row]) -> bool:
    """Whether all who use it asked for so many examples, and have no sample of their own."""
    return bool(users) and all(
        each.sample is None and (each.asked or {}).get("max_samples") == n_examples for each in users
    )
