"""Metadata that say what their summary says: what they said before has columns of its own."""

from alembic import op

revision: str = "0019"
down_revision: str | None = "0018"
branch_labels: str | None = None
depends_on: str | None = None

# Rewrites no row. `longest_gap_s` was the longest interval, a gap or not; `max_speed_kmh` stays the
# one that the positions allow. The release before writes none of the three: NULL of what it settles
# first, of the version before where it settles again. verdicts.py settles those that ended.
UPGRADE = """
ALTER TABLE route_metadata ADD COLUMN reported_max_speed_kmh double precision,
    ADD COLUMN longest_interval_s double precision, ADD COLUMN stops bigint;
INSERT INTO code_revisions VALUES ('0019');
"""

DOWNGRADE = """
DELETE FROM code_revisions WHERE revision = '0019';
ALTER TABLE route_metadata DROP COLUMN stops, DROP COLUMN longest_interval_s,
    DROP COLUMN reported_max_speed_kmh;
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
