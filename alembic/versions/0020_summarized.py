"""What other services were told of a trip's summary last, so that they hear what changes of it."""

from alembic import op

revision: str = "0020"
down_revision: str | None = "0019"
branch_labels: str | None = None
depends_on: str | None = None

# No default: no row is rewritten. The release before tells nothing of summaries, and leaves it.
UPGRADE = """
ALTER TABLE tracks
    ADD COLUMN summarized_id uuid,
    ADD COLUMN summarized_content uuid,
    ADD COLUMN summarized_before uuid;
INSERT INTO code_revisions VALUES ('0020');
"""

DOWNGRADE = """
DELETE FROM code_revisions WHERE revision = '0020';
ALTER TABLE tracks DROP COLUMN summarized_id, DROP COLUMN summarized_content,
    DROP COLUMN summarized_before;
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
