"""Share links have a label, a beginning, an end after the trip's, a revocation, and a count."""

from alembic import op

revision: str = "0005"
down_revision: str | None = "0004"
branch_labels: str | None = None
depends_on: str | None = None

# A link of before stays open for as long as it was made for, whenever its trip ends. The default of
# `after_end_s` is for the old release, which still makes links while this one is deployed: a day.
# Only the hash of a token has ever been stored: nothing is to be erased.
UPGRADE = """
ALTER TABLE share_links
    ADD COLUMN label text,
    ADD COLUMN from_pickup boolean NOT NULL DEFAULT false,
    ADD COLUMN after_end_s bigint NOT NULL DEFAULT 86400,
    ADD COLUMN revoked_at timestamptz,
    ADD COLUMN opens bigint NOT NULL DEFAULT 0,
    ADD COLUMN last_opened_at timestamptz;
UPDATE share_links SET after_end_s = greatest(ceil(extract(epoch FROM expires_at - created_at)), 0);
"""

# The old release knows neither revocation nor a later beginning: such links go.
DOWNGRADE = """
DELETE FROM share_links WHERE revoked_at IS NOT NULL OR from_pickup;
ALTER TABLE share_links
    DROP COLUMN label, DROP COLUMN from_pickup, DROP COLUMN after_end_s, DROP COLUMN revoked_at,
    DROP COLUMN opens, DROP COLUMN last_opened_at;
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
