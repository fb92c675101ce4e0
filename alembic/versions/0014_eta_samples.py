"""How long finished ways took: what ETAs are computed from."""

from alembic import op

revision: str = "0014"
down_revision: str | None = "0013"
branch_labels: str | None = None
depends_on: str | None = None

# A constant default rewrites no row. The release before knows neither: what it settles gives no
# sample.
UPGRADE = """
CREATE TABLE eta_samples (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    phase text NOT NULL,
    band smallint NOT NULL,
    metres double precision NOT NULL,
    seconds double precision NOT NULL,
    day date NOT NULL,
    CONSTRAINT eta_samples_phase CHECK (phase IN ('to_pickup', 'to_dropoff'))
);
CREATE INDEX eta_samples_newest ON eta_samples (phase, band, id);
ALTER TABLE arrivals ADD COLUMN sampled boolean NOT NULL DEFAULT false;
INSERT INTO code_revisions VALUES ('0014');
"""

DOWNGRADE = """
DELETE FROM code_revisions WHERE revision = '0014';
ALTER TABLE arrivals DROP COLUMN sampled;
DROP TABLE eta_samples;
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
