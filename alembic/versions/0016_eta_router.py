"""What a router says of a way, beside what it took."""

from alembic import op

revision: str = "0016"
down_revision: str | None = "0015"
branch_labels: str | None = None
depends_on: str | None = None

# No default: no row is rewritten. The release before stores samples without a router's seconds.
UPGRADE = """
ALTER TABLE eta_samples
    ADD COLUMN router_seconds double precision,
    ADD COLUMN router_took_seconds double precision;
CREATE TABLE eta_answers (
    track_id uuid NOT NULL REFERENCES tracks (id) ON DELETE CASCADE,
    phase text NOT NULL,
    band smallint NOT NULL,
    seq bigint NOT NULL,
    metres double precision NOT NULL,
    seconds double precision NOT NULL,
    PRIMARY KEY (track_id, phase, band),
    CONSTRAINT eta_answers_phase CHECK (phase IN ('to_pickup', 'to_dropoff'))
);
INSERT INTO code_revisions VALUES ('0016');
"""

DOWNGRADE = """
DELETE FROM code_revisions WHERE revision = '0016';
DROP TABLE eta_answers;
ALTER TABLE eta_samples DROP COLUMN router_seconds, DROP COLUMN router_took_seconds;
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
