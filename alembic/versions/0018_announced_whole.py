"""All that the last event says of a trip's end is remembered, so that all of it is corrected."""

from alembic import op

revision: str = "0018"
down_revision: str | None = "0017"
branch_labels: str | None = None
depends_on: str | None = None

# No default: no row is rewritten. The release before goes on writing `announced_id` alone, which
# is then another one than `announced_whole_id`: what stands beside that is of an older event.
UPGRADE = """
ALTER TABLE tracks
    ADD COLUMN announced_whole_id uuid,
    ADD COLUMN announced_started_at timestamptz,
    ADD COLUMN announced_waypoints bigint,
    ADD COLUMN announced_reported_mm bigint;
INSERT INTO code_revisions VALUES ('0018');
"""

DOWNGRADE = """
DELETE FROM code_revisions WHERE revision = '0018';
ALTER TABLE tracks DROP COLUMN announced_whole_id, DROP COLUMN announced_started_at,
    DROP COLUMN announced_waypoints, DROP COLUMN announced_reported_mm;
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
