"""How a statement meets the driver: many rows in one statement, binary COPY."""

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from io import BytesIO
from itertools import chain
from struct import Struct as Layout
from typing import Any, Final
from uuid import UUID

import psycopg2.extras
from psycopg2.extensions import cursor as Cursor

# https://www.postgresql.org/docs/15/sql-copy.html, "Binary Format"; times count from 2000.
_COPY_HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_COPY_TRAILER: Final = b"\xff\xff"
_ONE_FIELD: Final = Layout("!hi")  # how many fields a row has, and the length of the only one
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_BIG_ENDIAN: Final = 0
_POINT_WITH_SRID: Final = 0x20000001
_WGS84_SRID: Final = 4326
_REAL: Final = Layout("!if")
_NULL: Final = (-1).to_bytes(4, signed=True)


def execute_rows(
    cursor: Cursor, statement: str, rows: Collection[Sequence[Any]], template: str | None = None
) -> list[tuple[Any, ...]]:
    """One statement for all rows: `%s` in it stands for the list of VALUES."""
    if not rows:
        return []
    psycopg2.extras.execute_values(cursor, statement, rows, template, page_size=len(rows))
    return cursor.fetchall() if cursor.description else []


def uuid_array(values: Iterable[UUID | None]) -> str:
    """A uuid[] as text, without dashes: a tenth of what adapting each value costs."""
    return (
        "{" + ",".join("NULL" if value is None else f"{value.int:032x}" for value in values) + "}"
    )


def time_array(values: Iterable[datetime | None]) -> str:
    """A timestamptz[] as bigint[]; `TIME_OF` turns an element back. Microseconds, exact."""
    numbers = ("NULL" if v is None else str(microseconds(v)) for v in values)
    return "{" + ",".join(numbers) + "}"


def number_array(values: Iterable[float | None]) -> str:
    """A numeric array of any kind; repr keeps every digit."""
    return "{" + ",".join("NULL" if value is None else repr(value) for value in values) + "}"


# A nullable point from the two numbers of `pair`.
POINT: Final = "ST_SetSRID(ST_MakePoint(%s, %s), 4326)"


def pair(point: tuple[float, float] | None) -> tuple[float | None, float | None]:
    """A point as the two parameters that `POINT` takes."""
    return point if point is not None else (None, None)


def interval(length: timedelta) -> str:
    """A constant for SQL. Add it to the side that is no column of the index that is to be used."""
    return f"interval '{length.total_seconds():g} seconds'"


# `tracking.domain.routes.Order`, and the columns of the index waypoints_order.
ROUTE_ORDER: Final = "recorded_at, runner_id, reported_at, ST_X(position), ST_Y(position)"
TIME_OF: Final = "timestamptz '2000-01-01 00:00Z' + interval '1 microsecond' *"


def copy_binary(cursor: Cursor, target: str, pieces: Iterable[bytes]) -> None:
    """COPY rows that `packed_waypoint` made into the table and columns named by `target`.

    The server stores one piece while the next one is being made.
    """
    stream: Any = _Stream(chain((_COPY_HEADER,), pieces, (_COPY_TRAILER,)))
    cursor.copy_expert(f"COPY {target} FROM STDIN (FORMAT binary)", stream)


def copy_value(cursor: Cursor, query: str, values: Sequence[object]) -> memoryview:
    """The bytea that a query of one row and column gives; empty for NULL.

    As it is: in a result it would come as digits, which take both ends as long as the query.
    """
    sink = BytesIO()
    statement = cursor.mogrify(f"COPY ({query}) TO STDOUT (FORMAT binary)", values)
    cursor.copy_expert(statement.decode(), sink)
    row = sink.getbuffer()[len(_COPY_HEADER) :]
    _, length = _ONE_FIELD.unpack_from(row)
    return row[_ONE_FIELD.size : _ONE_FIELD.size + max(length, 0)]


class _Stream:
    """What psycopg2 reads from: it takes pieces of any length, and an empty one for the end."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)

    def read(self, _: int) -> bytes:
        return next((piece for piece in self._pieces if piece), b"")


WAYPOINT_COLUMNS: Final = (
    "track_id, recorded_at, runner_id, reported_at, seq, received_at, position,"
    " speed_kmh, heading_degrees"
)
# Field count, then each field behind its length; the position as big-endian EWKB.
_FIELDS: Final = "!h i16s iq i16s iq iq iq iBIIdd".replace(" ", "")
_UNMEASURED: Final = Layout(_FIELDS)
_MEASURED: Final = Layout(_FIELDS + "ifif")


def microseconds(time: datetime) -> int:
    """As PostgreSQL writes a timestamptz: since 2000-01-01 UTC."""
    return (time - _EPOCH) // _MICROSECOND


def packed_waypoint(
    track_id: bytes,
    seq: int,
    runner_id: bytes,
    recorded: int,
    reported: int,
    received: int,
    longitude: float,
    latitude: float,
    speed_kmh: float | None,
    heading_degrees: float | None,
) -> bytes:
    """One row of WAYPOINT_COLUMNS; times in `microseconds`. One call for each row of a backlog."""
    if speed_kmh is not None and heading_degrees is not None:
        return _MEASURED.pack(
            9, 16, track_id, 8, recorded, 16, runner_id, 8, reported, 8, seq, 8, received,
            25, _BIG_ENDIAN, _POINT_WITH_SRID, _WGS84_SRID, longitude, latitude,
            4, speed_kmh, 4, heading_degrees,
        )  # fmt: skip
    fields = _UNMEASURED.pack(
        9, 16, track_id, 8, recorded, 16, runner_id, 8, reported, 8, seq, 8, received,
        25, _BIG_ENDIAN, _POINT_WITH_SRID, _WGS84_SRID, longitude, latitude,
    )  # fmt: skip
    numbers = (speed_kmh, heading_degrees)
    return fields + b"".join(_NULL if n is None else _REAL.pack(4, n) for n in numbers)
