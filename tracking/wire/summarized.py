"""The data of `tracking.summarized`: what `GET …/summary` says. Any thread may call."""

from typing import Any

import msgspec

from tracking.domain.legs import Leg
from tracking.domain.summary import Summary
from tracking.domain.tracks import TrackView
from tracking.wire.arrival_message import arrivals_part
from tracking.wire.summary import summary_fields


def settled_fields(
    track: TrackView,
    summary: Summary | None,
    implausible: bool,
    route_sha256: str | None,
    legs: list[Leg],
) -> dict[str, Any]:
    """Of a trip whose summary is settled; ids are text."""
    fields = summary_fields(
        track, summary, is_final=True, implausible=implausible, route_sha256=route_sha256
    )
    data: dict[str, Any] = msgspec.to_builtins(fields | {"arrivals": arrivals_part(legs)})
    return data
