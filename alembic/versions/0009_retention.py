"""When a trip's route went, by its age: the summary stays."""

from alembic import op

revision: str = "0009"
down_revision: str | None = "0008"
branch_labels: str | None = None
depends_on: str | None = None

# A constant default rewrites no row. The release before knows neither column: it adds up a route
# that has gone as an empty one, so RETENTION_DAYS is set once all processes are of this release.
UPGRADE = """
ALTER TABLE tracks ADD COLUMN route_expired_at timestamptz;
ALTER TABLE route_metadata ADD COLUMN route_expired boolean NOT NULL DEFAULT false;
INSERT INTO code_revisions VALUES ('0009');
"""

# What has gone stays gone.
DOWNGRADE = """
DELETE FROM code_revisions WHERE revision = '0009';
ALTER TABLE route_metadata DROP COLUMN route_expired;
ALTER TABLE tracks DROP COLUMN route_expired_at;
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
