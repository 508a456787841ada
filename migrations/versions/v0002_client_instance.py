"""Which process a client is, so that one that comes back is told from another of the same name.

Revision: 0002, after 0001.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("clients", sa.Column("instance", sa.Text))
    condition = sa.text("left_at IS NULL")
    op.create_index("ix_clients_instance", "clients", ["instance"], sqlite_where=condition, postgresql_where=condition)


def downgrade() -> None:
    raise RuntimeError("dtm migrates forward only; restore the backup that was made before")
