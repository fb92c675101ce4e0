"""tracking.domain.access: who may watch a booking."""

from datetime import UTC, datetime
from uuid import uuid4

from tracking.domain.access import BookingAccess, Principal, may_watch


def test_who_may_watch_a_booking() -> None:
    owner, runner, stranger = uuid4(), uuid4(), uuid4()
    booking = BookingAccess(uuid4(), owner, runner)
    expires_at = datetime.now(UTC)
    allowed = {
        (user, role)
        for user in (owner, runner, stranger)
        for role in ("owner", "runner", "admin", "shop")
        if may_watch(Principal(user, role, expires_at), booking)
    }
    admins = {(user, "admin") for user in (owner, runner, stranger)}
    assert allowed == {(owner, "owner"), (runner, "runner")} | admins
    assert not may_watch(Principal(owner, "admin", expires_at), None)
    unclaimed = BookingAccess(uuid4(), None, None)
    assert not may_watch(Principal(owner, "owner", expires_at), unclaimed)
