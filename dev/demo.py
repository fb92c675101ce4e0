"""The main job, to look at: server, simulated trips, and a viewer in the terminal.

`make demo` runs it beside private services. Until Ctrl-C, or for DEMO_SECONDS; logs are in .dev,
or in the directory DEMO_LOGS. With ROLES=2 there are several servers (`demo_roles.py`).
"""

import asyncio
import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from datetime import timedelta
from typing import Any, Final
from urllib.request import Request, urlopen
from uuid import UUID, uuid4

from dev.demo_environment import CHECKOUT, DemoError, environment, logs_of, say
from dev.demo_parts import Part
from dev.demo_roles import Processes, roles_of
from dev.events import rfc3339
from dev.tokens import access_token
from dev.trips import Plan, Trip, trips_of
from dev.watch import Show, View, line, watch
from tracking.wire.close_codes import TRIP_OVER

TRIPS: Final = 5
# The booking is not known before its runner accepts it.
SHARE_RETRY_S: Final = 0.5
# Long enough to be pasted into another window after lunch.
TOKEN_LIFETIME: Final = timedelta(hours=12)
# The last positions are on their way when the pet is handed over.
AFTER_DELIVERY_S: Final = 3.0


def main() -> int:
    """The exit status: 0 if a position was shown."""
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, _interrupt)
    shown = [0]
    status = 0
    try:
        with contextlib.ExitStack() as stack:
            try:
                _run(stack, shown)
            finally:
                _ignore_signals()
    except KeyboardInterrupt:
        pass
    except DemoError as error:
        print(f"demo: {error}", file=sys.stderr)
        status = 1
    print(f"demo: {shown[0]} positions shown, everything stopped")
    return status or (0 if shown[0] else 1)


def _run(stack: contextlib.ExitStack, shown: list[int]) -> None:
    environ = environment(stack)
    number = roles_of(environ)
    processes = started_processes(stack, environ, number) if number else None
    parts = processes.parts if processes else [started_server(stack, environ)]
    # The simulator's own plan: what it will do is known without asking it.
    plan = Plan(
        seed=secrets.randbelow(1 << 32), runners=TRIPS, interval_s=1.0, start_ns=time.time_ns()
    )
    simulator = Part("simulator", _simulator_command(plan), environ)
    stack.callback(simulator.stop)
    _introduce(environ, next(trips_of(plan, 0)))
    if processes:
        print(processes.introduction(), flush=True)
    seconds = float(os.environ.get("DEMO_SECONDS", "0"))
    accidents = processes.accidents if processes else asyncio.Event().wait
    asyncio.run(_show(environ, plan, [*parts, simulator], seconds, shown, accidents))


def started_processes(
    stack: contextlib.ExitStack, environ: Mapping[str, str], number: int
) -> Processes:
    """Those of roles of their own, on the newest schema."""
    migrate(environ)
    return Processes(stack, environ, number)


def migrate(environ: Mapping[str, str]) -> None:
    """The demo's database to the newest schema."""
    say(f"database {environ['DB_NAME']} to the newest schema")
    migrated = subprocess.run(
        [sys.executable, "-m", "alembic", "upgrade", "head"],
        cwd=CHECKOUT, env=environ, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if migrated.returncode:
        raise DemoError(f"alembic upgrade head: {migrated.stderr.strip()}")


def started_server(stack: contextlib.ExitStack, environ: Mapping[str, str]) -> Part:
    """A server on the newest schema that is ready; stopped with the stack."""
    migrate(environ)
    say("server starts")
    server = Part("server", [sys.executable, "server.py"], environ)
    stack.callback(server.stop)
    server.wait_ready(f"http://127.0.0.1:{environ['SERVICE_PORT']}/readiness")
    return server


def _interrupt(*_: object) -> None:
    _ignore_signals()
    raise KeyboardInterrupt


def _ignore_signals() -> None:
    """A second Ctrl-C (a terminal and make may both send one) must not interrupt the stopping."""
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Not SIG_IGN: of one that has come already Python would say that it is ignored.
        signal.signal(name, _unheard)


def _unheard(*_: object) -> None:
    pass


def _simulator_command(plan: Plan) -> list[str]:
    rate = plan.runners / plan.interval_s
    arguments = [
        "--trips", str(plan.runners), "--rate", str(rate), "--seed", str(plan.seed),
        "--start", rfc3339(plan.start_ns),
    ]  # fmt: skip
    return [sys.executable, "-m", "dev.simulator", *arguments]


def _introduce(environ: Mapping[str, str], trip: Trip) -> None:
    port, secret, booking = environ["SERVICE_PORT"], environ["JWT_SECRET"], trip.booking_id
    admin = access_token(secret, uuid4(), "admin", lifetime=TOKEN_LIFETIME)
    owner = access_token(secret, UUID(trip.owner_id), "owner", lifetime=TOKEN_LIFETIME)
    http, ws = f"http://127.0.0.1:{port}", f"ws://127.0.0.1:{port}"
    print(f"""
  open        {http}/ops#token={admin}
  one pet     {http}/track/{booking}#token={owner}
  a friend    a share link follows as soon as the booking is accepted

  server      {http}   (logs: {logs_of(environ)}/*.log)
  booking     {booking}

  TOKEN={admin}     # an admin's: every booking
  OWNER={owner}     # the owner's of this booking

  curl -H "Authorization: Bearer $TOKEN" {http}/api/v1/tracking/{booking}
  curl -H "Authorization: Bearer $TOKEN" {http}/api/v1/tracking/{booking}/route
  curl -H "Authorization: Bearer $OWNER" {http}/api/v1/tracking/{booking}
  curl {http}/readiness {http}/metrics
  WebSocket: {ws}/ws/tracking/{booking}?token=$TOKEN
  .venv/bin/python -m dev.watch {booking} --url {ws} --token $TOKEN
""", flush=True)  # fmt: skip


async def _show(
    environ: Mapping[str, str],
    plan: Plan,
    parts: list[Part],
    seconds: float,
    shown: list[int],
    accidents: Callable[[], Coroutine[Any, Any, object]],
) -> None:
    """Every position of the demo's trips, until the time is over or a part ends."""

    def show(position: dict[str, Any]) -> None:
        shown[0] += 1
        print(line(position), flush=True)

    token = access_token(environ["JWT_SECRET"], uuid4(), "admin", lifetime=TOKEN_LIFETIME)
    base = f"ws://127.0.0.1:{environ['SERVICE_PORT']}/ws/tracking"
    viewers = [
        asyncio.create_task(_follow_runner(trips_of(plan, runner), base, token, show))
        for runner in range(plan.runners)
    ]
    viewers.append(asyncio.create_task(_share(environ, next(trips_of(plan, 0)))))
    broken = asyncio.create_task(accidents())
    end = time.monotonic() + seconds if seconds else float("inf")
    try:
        while time.monotonic() < end:
            for part in parts:
                part.check()
            if broken.done():
                await broken  # what was killed did not start again
            await asyncio.sleep(0.2)
    finally:
        for each in (*viewers, broken):
            each.cancel()
        await asyncio.gather(*viewers, broken, return_exceptions=True)


async def _share(environ: Mapping[str, str], trip: Trip) -> None:
    """A link as the owner's page makes it, as soon as there is something to share."""
    owner = access_token(environ["JWT_SECRET"], UUID(trip.owner_id), "owner")
    url = f"http://127.0.0.1:{environ['SERVICE_PORT']}/api/v1/tracking/{trip.booking_id}/share"
    request = Request(url, method="POST", headers={"Authorization": f"Bearer {owner}"})
    while True:
        with contextlib.suppress(OSError):
            answer = await asyncio.to_thread(urlopen, request, timeout=5)
            say(f"a friend's page: {json.load(answer)['data']['share_url']}")
            return
        await asyncio.sleep(SHARE_RETRY_S)


async def _follow_runner(trips: Iterator[Trip], base: str, token: str, show: Show) -> None:
    """One trip after another, each from its request to shortly after its delivery."""
    for trip in trips:
        await asyncio.sleep(_seconds_until(trip.requested_ns))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_seconds_until(trip.delivered_ns) + AFTER_DELIVERY_S):
                view = View(lambda: token, show, _unsaid)
                code = 0
                while code != TRIP_OVER.code:  # refused as long as the booking is not known
                    code = await watch(f"{base}/{trip.booking_id}", view, _unsaid)
                    await asyncio.sleep(0.5)


def _unsaid(_: str) -> None:
    """Of five trips at once only the positions are shown."""


def _seconds_until(time_ns: int) -> float:
    return max(0.0, (time_ns - time.time_ns()) / 1e9)


if __name__ == "__main__":
    sys.exit(main())
