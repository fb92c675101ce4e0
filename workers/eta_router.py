"""Asks an OSRM server how long a way takes. IOLoop thread.

The address that is asked holds where somebody is: neither it nor an error's text is ever logged.
"""

import logging
import time
from math import isfinite
from typing import Final

import msgspec
from msgspec import Struct
from tornado.httpclient import HTTPRequest
from tornado.simple_httpclient import HTTPTimeoutError, SimpleAsyncHTTPClient

from tracking.metrics import Metrics
from tracking.settings import Settings
from workers.circuit import Circuit

log = logging.getLogger("tracking.router")

TIMEOUT_S: Final = 1.0
# Without geometry an answer has some 500 bytes.
MAX_BODY_BYTES: Final = 64 << 10
# Farther from the nearest road than this, the router knows another region, and no way from here.
OFF_ROAD_M: Final = 1_000.0
# Its answers to places between which there is no way: nothing is wrong with the router.
NO_WAY: Final = ("NoRoute", "NoSegment")

Place = tuple[float, float]  # longitude, latitude


class _Route(Struct):
    duration: float


class _Waypoint(Struct):
    distance: float = 0.0


class _Found(Struct):
    """https://project-osrm.org/docs/v5.24.0/api/#route-service"""

    code: str
    routes: list[_Route] = []
    waypoints: list[_Waypoint] = []


class EtaRouter:
    """At most `at_once` requests at a time; whoever asks more waits, at most for TIMEOUT_S."""

    def __init__(
        self, settings: Settings, metrics: Metrics, at_once: int, circuit: Circuit | None = None
    ) -> None:
        self._base = f"{settings.eta_router_url}/route/v1/{settings.eta_router_profile}"
        self._metrics = metrics.etas
        self._circuit = Circuit() if circuit is None else circuit
        self._client = SimpleAsyncHTTPClient(
            force_instance=True, max_clients=at_once, max_body_size=MAX_BODY_BYTES
        )

    async def seconds(self, start: Place, end: Place) -> float | None:
        """What the router says; None if it says nothing, or is not asked at the moment."""
        if not self._circuit.may_ask():
            self._metrics.router_requests.labels("open").inc()
            return None
        began, outcome, seconds = time.monotonic(), "error", None
        try:
            seconds = _seconds(await self._fetch(start, end))
            outcome = "no_route" if seconds is None else "ok"
        except HTTPTimeoutError:
            outcome = "timeout"
        except Exception as error:  # whatever it answers, ETAs go on
            log.debug("the router's answer is no use: %s", type(error).__name__)
        self._count(outcome, time.monotonic() - began)
        return seconds

    async def _fetch(self, start: Place, end: Place) -> bytes:
        ways = ";".join(f"{longitude:.6f},{latitude:.6f}" for longitude, latitude in (start, end))
        request = HTTPRequest(
            f"{self._base}/{ways}?overview=false",
            follow_redirects=False,
            connect_timeout=TIMEOUT_S,
            request_timeout=TIMEOUT_S,
        )
        response = await self._client.fetch(request, raise_error=False)
        if response.code not in (200, 400):  # 400 has a code in its body, too
            raise ValueError("no answer of an OSRM server")
        return response.body

    def _count(self, outcome: str, took_s: float) -> None:
        self._metrics.router_requests.labels(outcome).inc()
        self._metrics.router_request_seconds.observe(took_s)
        if outcome in ("ok", "no_route"):
            if self._circuit.succeeded():
                log.info("the router answers again")
        elif self._circuit.failed():
            log.warning(
                "the router does not answer (%s), ETAs come from the distance; asked again in"
                " %.0f s", outcome, self._circuit.pause_s,
            )  # fmt: skip
        self._metrics.router_open.set(self._circuit.is_open)

    async def try_once(self) -> str:
        """For --check: what is wrong, or "". Nobody is at 0, 0: any answer of OSRM's will do."""
        try:
            _seconds(await self._fetch((0.0, 0.0), (0.0, 0.0)))
        except HTTPTimeoutError:
            return "it does not answer within a second"
        except OSError as error:
            return error.strerror or type(error).__name__
        except ValueError as error:
            return str(error)
        except Exception as error:
            return type(error).__name__
        return ""

    def close(self) -> None:
        self._client.close()


def _seconds(body: bytes) -> float | None:
    """None: there is no way. ValueError if this is no answer of an OSRM server."""
    try:
        found = msgspec.json.decode(body, type=_Found)
    except (msgspec.DecodeError, RecursionError):
        raise ValueError("no answer of an OSRM server") from None
    if found.code in NO_WAY:
        return None
    if found.code != "Ok" or not found.routes:
        raise ValueError(f"it answers {found.code[:40]}")
    if any(each.distance > OFF_ROAD_M for each in found.waypoints):
        return None
    seconds = found.routes[0].duration
    return seconds if isfinite(seconds) and seconds > 0 else None
