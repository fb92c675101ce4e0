"""What still has to go out is found without a look at the rest; what was said of a trip's end."""

from datetime import UTC, datetime
from uuid import uuid5

import sqlalchemy as sa
from alembic import op

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: str | None = None
depends_on: str | None = None

UPGRADE = """
ALTER TABLE tracks ADD COLUMN announced_id uuid, ADD COLUMN announced_distance_mm bigint,
    ADD COLUMN announced_completed_at timestamptz;
ALTER TABLE outbox ADD COLUMN taken boolean NOT NULL DEFAULT false;
CREATE INDEX outbox_track ON outbox (track_id);
ALTER TABLE published_watermarks ADD COLUMN published_at timestamptz,
    ADD COLUMN unsent_since timestamptz;
-- Which of them have something to send, the drainer finds out.
UPDATE published_watermarks SET unsent_since = now();
CREATE INDEX published_watermarks_unsent ON published_watermarks (unsent_since)
    WHERE unsent_since IS NOT NULL;
"""

DOWNGRADE = """
DELETE FROM outbox WHERE type = 'tracking.corrected';
DROP INDEX outbox_track, published_watermarks_unsent;
ALTER TABLE outbox DROP COLUMN taken;
ALTER TABLE published_watermarks DROP COLUMN published_at, DROP COLUMN unsent_since;
ALTER TABLE tracks DROP COLUMN announced_id, DROP COLUMN announced_distance_mm,
    DROP COLUMN announced_completed_at;
-- Before 0002 every active track has a watermark.
INSERT INTO published_watermarks (track_id, published_seq)
    SELECT id, head_seq FROM tracks WHERE status = 'active' ON CONFLICT DO NOTHING;
"""

COMPLETED = "SELECT id, completed_at, distance_mm FROM tracks WHERE status = 'completed'"
ANNOUNCE = """
UPDATE tracks SET announced_id = :event_id, announced_distance_mm = :distance_mm,
    announced_completed_at = :completed_at WHERE id = :id
"""


def rfc3339(time: datetime) -> str:
    """As the service wrote it then: a migration does not change with the code beside it."""
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def upgrade() -> None:
    op.execute(UPGRADE)
    # Their tracking.completed was written: a change of them is a correction from now on.
    connection = op.get_bind()
    announced = [
        {
            "id": row.id,
            "event_id": uuid5(row.id, f"tracking.completed {rfc3339(row.completed_at)}"),
            "distance_mm": row.distance_mm,
            "completed_at": row.completed_at,
        }
        for row in connection.execute(sa.text(COMPLETED))
    ]
    if announced:
        connection.execute(sa.text(ANNOUNCE), announced)


def downgrade() -> None:
    op.execute(DOWNGRADE)
