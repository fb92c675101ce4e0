"""What was accepted lately is looked for: two processes may have missed each other's."""

from alembic import op

revision: str = "0017"
down_revision: str | None = "0016"
branch_labels: str | None = None
depends_on: str | None = None

UPGRADE = """
CREATE INDEX booking_facts_accepted ON booking_facts (stored_at) WHERE kind = 'accepted';
INSERT INTO code_revisions VALUES ('0017');
"""

DOWNGRADE = """
DELETE FROM code_revisions WHERE revision = '0017';
DROP INDEX booking_facts_accepted;
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
