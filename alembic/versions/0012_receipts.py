"""Receipts of trips, and the SHA-256 of each settled route."""

from alembic import op

revision: str = "0012"
down_revision: str | None = "0011"
branch_labels: str | None = None
depends_on: str | None = None

# Rewrites no row. The release before knows neither: of what it settles meanwhile `route_sha256_at`
# is older than `updated_at`, and its SHA-256 is not used; verdicts.py computes it.
UPGRADE = """
ALTER TABLE route_metadata ADD COLUMN route_sha256 text, ADD COLUMN route_sha256_at timestamptz;
CREATE TABLE receipts (
    track_id uuid NOT NULL REFERENCES tracks (id) ON DELETE CASCADE,
    number bigint NOT NULL,
    state text NOT NULL,
    token text NOT NULL,
    issued_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (track_id, number)
);
INSERT INTO code_revisions VALUES ('0012');
"""

DOWNGRADE = """
DELETE FROM code_revisions WHERE revision = '0012';
DROP TABLE receipts;
ALTER TABLE route_metadata DROP COLUMN route_sha256_at, DROP COLUMN route_sha256;
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
