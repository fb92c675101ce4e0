"""A connection's limits: set once where it is ours, with each statement behind a pooler.

PgBouncer gives a connection of PostgreSQL to another client after each transaction, so nothing that
is set lasts, and `options=` is refused. Hence no locks of a session and nothing prepared, either:
only single statements go there, each a transaction of its own.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from tracking.store.statements import Statements

# Whoever stands still, or is cut off, in the middle of a transaction holds the locks of its tracks,
# and the others wait for them until PostgreSQL has ended it.
LET_GO: Final = {
    "idle_in_transaction_session_timeout": 15_000,
    # It asks a silent client three times; what nobody acknowledges counts as silence, too.
    "tcp_keepalives_idle": 4,
    "tcp_keepalives_interval": 2,
    "tcp_keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}


def direct(limits: Mapping[str, object]) -> dict[str, Any]:
    """libpq's arguments for a connection of our own."""
    lasting = {
        **limits,
        **LET_GO,
        # What is prepared is planned once, and not for each array that it gets.
        "plan_cache_mode": "force_generic_plan",
    }
    return {"options": " ".join(f"-c {name}={value}" for name, value in lasting.items())}


def pooled(limits: Mapping[str, object]) -> dict[str, Any]:
    """libpq's arguments for a connection through the pooler."""
    text = "".join(f"SET LOCAL {name} = '{value}';" for name, value in limits.items())
    return {"cursor_factory": partial(Limited, limits=text.encode())}


class Limited(Statements):
    """A cursor that sends the limits with each statement: one message, which is one transaction."""

    def __init__(self, *arguments: Any, limits: bytes, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._limits = limits

    def execute(self, statement: Any, values: Any = None) -> None:
        super().execute(self._limits + self.mogrify(statement, values))

    def copy_expert(self, sql: Any, file: Any, size: int = 8192) -> None:
        super().copy_expert(self._limits.decode() + sql, file, size)
