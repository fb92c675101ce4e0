"""What an ended trip adds up to, as the API says it, beside its other metadata."""

from alembic import op

revision: str = "0008"
down_revision: str | None = "0007"
branch_labels: str | None = None
depends_on: str | None = None

# Metadata only: no row is rewritten. The release before writes neither column, so `track_version`
# is then older than the track's, and its summary is not used.
UPGRADE = """
ALTER TABLE route_metadata
    ADD COLUMN track_version bigint,
    ADD COLUMN summary jsonb;
INSERT INTO code_revisions VALUES ('0008');
"""

DOWNGRADE = """
DELETE FROM code_revisions WHERE revision = '0008';
ALTER TABLE route_metadata DROP COLUMN summary, DROP COLUMN track_version;
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
