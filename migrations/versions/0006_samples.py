"""Experiments that use some of a dataset's rows only.

Revision: 0006
Follows: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from lumigator_nb.errors import InUseError

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("experiment", sa.Column("sample", sa.JSON(), nullable=True))


def downgrade() -> None:
    _refuse_samples()
    with op.batch_alter_table("experiment") as table:
        table.drop_column("sample")


def _refuse_samples() -> None:
    """Without its sample an experiment's answers would be taken for those to the first rows of the dataset."""
    experiment = sa.table("experiment", sa.column("name", sa.String), sa.column("sample", sa.JSON))
    rows = op.get_bind().execute(sa.select(experiment)).all()
    names = [row.name for row in rows if row.sample]
    if names:
        raise InUseError(
            f"experiments use a part of their dataset, which earlier versions cannot: {', '.join(names[:10])}",
            "export those that are still needed, delete them, and go back then",
        )
