"""How a workflow goes about its work; datasets with generated ground truth.

Revision: 0002
Follows: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("workflow") as table:
        table.add_column(sa.Column("launch", sa.JSON(), nullable=False, server_default="{}"))
    with op.batch_alter_table("dataset") as table:
        table.add_column(sa.Column("generated", sa.JSON(), nullable=False, server_default="{}"))


def downgrade() -> None:
    with op.batch_alter_table("workflow") as table:
        table.drop_column("launch")
    with op.batch_alter_table("dataset") as table:
        table.drop_column("generated")
