"""What people said of answers.

Revision: 0003
Follows: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

SUBJECT = ("experiment_id", "kind", "criterion", "rater", "row", "model", "other")


def _text(name: str, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.String(), nullable=nullable)


def upgrade() -> None:
    op.create_table(
        "label",
        _text("id"),
        _text("experiment_id"),
        _text("kind"),
        _text("criterion"),
        _text("rater"),
        sa.Column("row", sa.Integer(), nullable=False),
        _text("model"),
        _text("other"),
        sa.Column("value", sa.Float(), nullable=False),
        sa.Column("scale_low", sa.Float(), nullable=True),
        sa.Column("scale_high", sa.Float(), nullable=True),
        _text("comment", nullable=True),
        sa.Column("seconds", sa.Float(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_label"),
        sa.ForeignKeyConstraint(
            ["experiment_id"], ["experiment.id"], name="fk_label_experiment_id_experiment", ondelete="CASCADE"
        ),
        sa.UniqueConstraint(*SUBJECT, name=f"uq_label_{'_'.join(SUBJECT)}"),
    )
    op.create_index("ix_label_experiment_id", "label", ["experiment_id"])


def downgrade() -> None:
    op.drop_table("label")
