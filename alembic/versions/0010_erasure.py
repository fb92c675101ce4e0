"""Tombstones of what was erased: its events are refused, whenever they come again."""

from alembic import op

revision: str = "0010"
down_revision: str | None = "0009"
branch_labels: str | None = None
depends_on: str | None = None

# The release before knows no tombstone, and would store a replayed event: nothing is erased before
# all processes are of this release.
UPGRADE = """
ALTER TABLE bookings ADD COLUMN erased_at timestamptz;
CREATE INDEX bookings_owner ON bookings (owner_id) WHERE owner_id IS NOT NULL;
CREATE INDEX bookings_erased ON bookings (erased_at) WHERE erased_at IS NOT NULL;
CREATE TABLE erased_spans (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    runner_sha256 bytea NOT NULL,
    booking_id uuid,
    since timestamptz NOT NULL,
    until timestamptz NOT NULL
);
CREATE INDEX erased_spans_runner ON erased_spans (runner_sha256);
INSERT INTO code_revisions VALUES ('0010');
"""
# What is erased stays erased, until a replay brings it again.
DOWNGRADE = """
DELETE FROM code_revisions WHERE revision = '0010';
DELETE FROM outbox WHERE type IN ('tracking.erased', 'tracking.runner_erased');
DROP TABLE erased_spans;
DROP INDEX bookings_erased, bookings_owner;
ALTER TABLE bookings DROP COLUMN erased_at;
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
