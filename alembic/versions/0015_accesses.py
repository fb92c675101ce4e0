"""Who read where somebody was: a log that is only added to."""

from alembic import op

revision: str = "0015"
down_revision: str | None = "0014"
branch_labels: str | None = None
depends_on: str | None = None

# The service owns its tables, so that no REVOKE binds it: a trigger does. Erasure and the log's own
# retention say that they mean it, for their transaction.
UPGRADE = """
CREATE TABLE accesses (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    booking_id uuid,
    reader_id uuid NOT NULL,
    role text NOT NULL,
    way text NOT NULL,
    first_at timestamptz NOT NULL,
    last_at timestamptz NOT NULL,
    count bigint NOT NULL
);
CREATE INDEX accesses_booking ON accesses (booking_id, first_at);
CREATE INDEX accesses_first_at ON accesses (first_at);
CREATE FUNCTION accesses_are_only_added() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('tracking.forgets_accesses', true) IS DISTINCT FROM 'on' THEN
        RAISE EXCEPTION 'the access log is only added to' USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER accesses_are_only_added BEFORE UPDATE OR DELETE OR TRUNCATE ON accesses
    FOR EACH STATEMENT EXECUTE FUNCTION accesses_are_only_added();
INSERT INTO code_revisions VALUES ('0015');
"""
DOWNGRADE = """
DELETE FROM code_revisions WHERE revision = '0015';
DROP TABLE accesses;
DROP FUNCTION accesses_are_only_added;
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
