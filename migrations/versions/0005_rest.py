"""Jobs that are asked for by themselves, descriptions, API tokens, answers to repeated requests.

Revision: 0005
Follows: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def _time(name: str, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _description() -> sa.Column:
    return sa.Column("description", sa.String(), nullable=False, server_default="")


def upgrade() -> None:
    with op.batch_alter_table("experiment") as table:
        table.add_column(_description())
        table.add_column(sa.Column("purpose", sa.String(16), nullable=False, server_default="comparison"))
        table.add_column(sa.Column("asked", sa.JSON(), nullable=False, server_default="{}"))
        table.add_column(sa.Column("owes_dataset", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_index("ix_experiment_purpose", "experiment", ["purpose"])
    op.create_index("ix_experiment_owes_dataset", "experiment", ["owes_dataset"])
    op.add_column("workflow", _description())
    op.add_column("job", sa.Column("listed", sa.Boolean(), nullable=False, server_default=sa.true()))
    op.create_index("ix_job_listed_created_at_id", "job", ["listed", "created_at", "id"])
    op.create_table(
        "token",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("scope", sa.String(16), nullable=False),
        _time("created_at"),
        _time("expires_at", nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_token"),
    )
    op.create_index("ix_token_name", "token", ["name"], unique=True)
    op.create_index("ix_token_digest", "token", ["digest"], unique=True)
    op.create_table(
        "reply",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("headers", sa.JSON(), nullable=False, server_default="{}"),
        sa.Column("body", sa.String(), nullable=False),
        _time("created_at"),
        sa.PrimaryKeyConstraint("key", name="pk_reply"),
    )
    op.create_index("ix_reply_created_at", "reply", ["created_at"])


def downgrade() -> None:
    op.drop_table("reply")
    op.drop_table("token")
    op.drop_index("ix_job_listed_created_at_id", "job")
    with op.batch_alter_table("job") as table:
        table.drop_column("listed")
    with op.batch_alter_table("workflow") as table:
        table.drop_column("description")
    op.drop_index("ix_experiment_owes_dataset", "experiment")
    op.drop_index("ix_experiment_purpose", "experiment")
    with op.batch_alter_table("experiment") as table:
        for name in ("owes_dataset", "asked", "purpose", "description"):
            table.drop_column(name)
