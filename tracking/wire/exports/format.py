"""What every format of an export does, and what an export says of its trip."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from datetime import datetime
from typing import Any, ClassVar, Final
from xml.sax.saxutils import escape

from msgspec import Struct

from tracking.domain.points import Points

# https://www.w3.org/TR/xml/#charsets: what no XML document can hold, not even escaped.
_NO_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class ExportedTrip(Struct, frozen=True):
    """`name`: the booking's number, or its id. `properties`: as those of the route."""

    name: str
    at: datetime  # when the newest of it was recorded
    properties: dict[str, Any]


class Format(ABC):
    """One document while it is written: `begin`, each segment, `end`. One thread at a time."""

    content_type: ClassVar[str]
    # What it needs to know of each waypoint.
    columns: ClassVar[tuple[str, ...]]
    # Whether flagged waypoints are in it without being asked for.
    has_flagged: ClassVar[bool] = False
    # Whether readers would join two waypoints on both sides of ±180 degrees around the world, so
    # that a segment has to end between them. (GeoJSON cuts the leg itself; CSV draws none.)
    ends_at_antimeridian: ClassVar[bool] = False
    # The number of the one that is open.
    segment: int = 0

    @abstractmethod
    def begin(self, trip: ExportedTrip) -> bytes: ...

    def open_segment(self) -> Iterator[bytes]:
        """Before the segment's first points."""
        return iter(())

    @abstractmethod
    def add(self, points: Points) -> Iterator[bytes]:
        """The next of the segment, some thousands at the most."""

    def close_segment(self) -> Iterator[bytes]:
        return iter(())

    def end(self) -> bytes:
        return b""


def xml_text(text: str) -> str:
    return escape(_NO_XML.sub("\N{REPLACEMENT CHARACTER}", text))
