"""Runs the server with a fault inside: it kills itself at the n-th time it comes to a place.

`FAULT=PLACE:N python -m faults.launcher`. The server knows nothing of it: functions are wrapped
from outside, before it starts.
"""

import importlib
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, Final

# Place -> module, function, whether the kill comes before it or after it.
STORING: Final = {
    "before COMMIT": ("tracking.store.ingest.batch", "_store", False),
    "after COMMIT": ("workers.batch_store", "store_batch", False),
    "before the watermark": ("tracking.store.outbox.watermarks", "advance", True),
    "before the outbox's end": ("tracking.store.outbox.events", "delete_events", True),
}
SETTLING: Final = {
    "after the verdicts": ("tracking.store.maintenance.metadata", "judge_track", False),
    "before the summary's COMMIT": ("tracking.store.maintenance.metadata", "tell_summary", False),
    "after the metadata": ("workers.maintenance", "update_metadata", False),
}
RETENTION: Final = {
    "after the routes": ("tracking.store.maintenance.expiry", "expire", False),
    "before DETACH": ("tracking.store.maintenance.dropping", "drop_below", True),
    "after DETACH": ("tracking.store.maintenance.dropping", "detach_below", False),
}
ERASING: Final = {
    "after an erasure's DELETE": ("tracking.store.erasing.bookings", "_delete", False),
    "before an erasure's COMMIT": ("tracking.store.erasing.bookings", "_tell", False),
    "after an erasure's COMMIT": ("handlers.api.tracks", "erase_booking", False),
}
PLACES: Final = {**STORING, **SETTLING, **RETENTION, **ERASING}


def arm(place: str, number: int) -> None:
    """The process dies at the given pass, as if the power had gone."""
    module_name, name, is_before = PLACES[place]
    module = importlib.import_module(module_name)
    setattr(module, name, _deadly(getattr(module, name), number, is_before))


def _deadly(function: Callable[..., Any], number: int, is_before: bool) -> Callable[..., Any]:
    left = number

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        nonlocal left
        left -= 1
        if is_before and left == 0:
            _die()
        result = function(*args, **kwargs)
        if left == 0:
            _die()
        return result

    return wrapped


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> int:
    """The server's exit status, if it lives to tell."""
    place, _, number = os.environ["FAULT"].rpartition(":")
    arm(place, int(number))
    import server  # the wrapped functions have to be there first

    return server.main()


if __name__ == "__main__":
    sys.exit(main())
