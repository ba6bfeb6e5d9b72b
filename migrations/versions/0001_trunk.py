"""Datasets, experiments, workflows and jobs.

Revision: 0001
Follows: nothing
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _time(name: str, nullable: bool = True) -> sa.Column:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _text(name: str, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.String(), nullable=nullable)


def upgrade() -> None:
    op.create_table(
        "dataset",
        _text("id"),
        _text("name"),
        _text("filename"),
        _text("content_hash"),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("n_examples", sa.Integer(), nullable=False),
        sa.Column("columns", sa.JSON(), nullable=False),
        sa.Column("profile", sa.JSON(), nullable=False),
        sa.Column("notes", sa.JSON(), nullable=False),
        _time("created_at", nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_dataset"),
    )
    op.create_index("ix_dataset_name", "dataset", ["name"], unique=True)
    op.create_index("ix_dataset_content_hash", "dataset", ["content_hash"])

    op.create_table(
        "experiment",
        _text("id"),
        _text("name"),
        _text("dataset_id"),
        sa.Column("task", sa.JSON(), nullable=False),
        sa.Column("metrics", sa.JSON(), nullable=False),
        _time("created_at", nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_experiment"),
        sa.ForeignKeyConstraint(["dataset_id"], ["dataset.id"], name="fk_experiment_dataset_id_dataset"),
    )
    op.create_index("ix_experiment_name", "experiment", ["name"], unique=True)
    op.create_index("ix_experiment_dataset_id", "experiment", ["dataset_id"])

    op.create_table(
        "workflow",
        _text("id"),
        _text("experiment_id"),
        _text("label"),
        _text("fingerprint"),
        sa.Column("model", sa.JSON(), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("stale", sa.Boolean(), nullable=False),
        _text("error", nullable=True),
        _time("created_at", nullable=False),
        _time("attempted_at", nullable=False),
        _time("finished_at"),
        sa.PrimaryKeyConstraint("id", name="pk_workflow"),
        sa.ForeignKeyConstraint(["experiment_id"], ["experiment.id"], name="fk_workflow_experiment_id_experiment"),
        sa.UniqueConstraint("experiment_id", "label", name="uq_workflow_experiment_id_label"),
        sa.UniqueConstraint("experiment_id", "fingerprint", name="uq_workflow_experiment_id_fingerprint"),
    )
    op.create_index("ix_workflow_experiment_id", "workflow", ["experiment_id"])
    op.create_index("ix_workflow_status", "workflow", ["status"])

    op.create_table(
        "job",
        _text("id"),
        _text("workflow_id"),
        sa.Column("step", sa.String(16), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("n_examples", sa.Integer(), nullable=False),
        sa.Column("n_failed", sa.Integer(), nullable=False),
        _text("error", nullable=True),
        sa.Column("scores", sa.JSON(), nullable=False),
        sa.Column("details", sa.JSON(), nullable=False),
        _time("created_at", nullable=False),
        _time("started_at"),
        _time("finished_at"),
        sa.PrimaryKeyConstraint("id", name="pk_job"),
        sa.ForeignKeyConstraint(
            ["workflow_id"], ["workflow.id"], name="fk_job_workflow_id_workflow", ondelete="CASCADE"
        ),
        sa.UniqueConstraint("workflow_id", "step", name="uq_job_workflow_id_step"),
    )
    op.create_index("ix_job_workflow_id", "job", ["workflow_id"])


def downgrade() -> None:
    for table in ("job", "workflow", "experiment", "dataset"):
        op.drop_table(table)
