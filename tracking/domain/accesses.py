"""Who read where somebody was: what is noted of it. Pure."""

from datetime import datetime
from typing import Final, Literal, TypeAlias
from uuid import UUID

from msgspec import Struct

# REST answers; files; live sockets; trips that are shown again; the operator's record of a trip;
# all active trips at once.
Way: TypeAlias = Literal["rest", "export", "socket", "replay", "ops", "fleet"]

# Whoever looks through a share link: the reader is the link.
LINK: Final = "link"


class Reader(Struct, frozen=True):
    """Who reads what how. `booking_id` is None for all active trips at once."""

    booking_id: UUID | None
    reader_id: UUID
    role: str
    way: Way


class Access(Struct, frozen=True):
    """So many reads, from when to when: within one hour. Of one who watches all active trips, for
    how long he did: some minutes.
    """

    reader: Reader
    first_at: datetime
    last_at: datetime
    count: int
