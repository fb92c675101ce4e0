"""Which releases run on the schema: processes of the one before go on during a deployment."""

from alembic import op

revision: str = "0006"
down_revision: str | None = "0005"
branch_labels: str | None = None
depends_on: str | None = None

# Each migration from here on adds its own revision; one that takes away what the code of an older
# revision needs deletes that from the table. docs/versioning.md has the rule.
UPGRADE = """
CREATE TABLE code_revisions (revision text PRIMARY KEY);
INSERT INTO code_revisions VALUES ('0006');
"""

DOWNGRADE = """
DROP TABLE code_revisions;
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
