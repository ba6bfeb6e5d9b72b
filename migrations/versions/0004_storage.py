"""Versions of datasets, archives, provenance, secrets; indexes for lists.

Revision: 0004
Follows: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

LISTED = ("dataset", "experiment", "workflow")


def _json(name: str) -> sa.Column:
    return sa.Column(name, sa.JSON(), nullable=False, server_default="{}")


def _time(name: str, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def upgrade() -> None:
    op.drop_index("ix_dataset_name", "dataset")
    with op.batch_alter_table("dataset") as table:
        table.add_column(sa.Column("version", sa.Integer(), nullable=False, server_default="1"))
        table.add_column(sa.Column("data_hash", sa.String(), nullable=False, server_default=""))
        table.add_column(_json("derived"))
        table.add_column(_time("archived_at", nullable=True))
        table.create_unique_constraint("uq_dataset_name_version", ["name", "version"])
    op.create_index("ix_dataset_name", "dataset", ["name"])
    op.add_column("experiment", _time("archived_at", nullable=True))
    op.add_column("workflow", _json("provenance"))
    for table_name in LISTED:
        op.create_index(f"ix_{table_name}_created_at_id", table_name, ["created_at", "id"])
    op.create_table(
        "secret",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("sealed", sa.String(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("description", sa.String(), nullable=True),
        _time("created_at"),
        _time("updated_at"),
        sa.PrimaryKeyConstraint("name", name="pk_secret"),
    )


def downgrade() -> None:
    op.drop_table("secret")
    for table_name in LISTED:
        op.drop_index(f"ix_{table_name}_created_at_id", table_name)
    with op.batch_alter_table("workflow") as table:
        table.drop_column("provenance")
    with op.batch_alter_table("experiment") as table:
        table.drop_column("archived_at")
    _rename_versions()
    op.drop_index("ix_dataset_name", "dataset")
    with op.batch_alter_table("dataset") as table:
        table.drop_constraint("uq_dataset_name_version", type_="unique")
        for column in ("archived_at", "derived", "data_hash", "version"):
            table.drop_column(column)
    op.create_index("ix_dataset_name", "dataset", ["name"], unique=True)


def _rename_versions() -> None:
    """Before there were versions names were unique: earlier versions become "name@1", or longer where that is taken."""
    dataset = sa.table(
        "dataset", sa.column("id", sa.String), sa.column("name", sa.String), sa.column("version", sa.Integer)
    )
    connection = op.get_bind()
    rows = connection.execute(sa.select(dataset).order_by(dataset.c.version.desc())).all()
    taken = {row.name for row in rows}
    seen: set[str] = set()
    for row in rows:
        if row.name not in seen:
            seen.add(row.name)
            continue
        name = f"{row.name}@{row.version}"
        while name in taken:
            name += "_"
        taken.add(name)
        connection.execute(sa.update(dataset).where(dataset.c.id == row.id).values(name=name))
