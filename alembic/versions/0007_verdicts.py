"""Which waypoints of a route cannot be true, by which rule, and both distances of ended trips."""

from alembic import op

revision: str = "0007"
down_revision: str | None = "0006"
branch_labels: str | None = None
depends_on: str | None = None

# Metadata only: a constant default rewrites no row. The release before writes neither column.
UPGRADE = """
ALTER TABLE waypoints ADD COLUMN verdict smallint NOT NULL DEFAULT 0;
ALTER TABLE route_metadata
    ADD COLUMN reported_distance_m double precision,
    ADD COLUMN flagged bigint,
    ADD COLUMN implausible boolean,
    ADD COLUMN verdict_rule jsonb;
INSERT INTO code_revisions VALUES ('0007');
"""

# The distance of metadata is then that of all waypoints again, as the release before has it.
DOWNGRADE = """
UPDATE route_metadata SET distance_m = reported_distance_m WHERE flagged > 0;
DELETE FROM code_revisions WHERE revision = '0007';
ALTER TABLE route_metadata
    DROP COLUMN verdict_rule, DROP COLUMN implausible, DROP COLUMN flagged,
    DROP COLUMN reported_distance_m;
ALTER TABLE waypoints DROP COLUMN verdict;
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
