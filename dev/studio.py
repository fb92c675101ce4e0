"""Where dev.pictures takes its pictures: pages of one server, and its database."""

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, Literal
from urllib.error import HTTPError
from urllib.request import Request, urlopen
from uuid import UUID, uuid4

import psycopg2
from playwright.sync_api import Browser, Error, Page, TimeoutError
from psycopg2.extensions import connection as Connection

from dev.demo_environment import CHECKOUT, logs_of, say
from dev.picture_trips import Stage
from dev.tokens import access_token
from dev.trips import Trip

FOLDER: Final = CHECKOUT / "docs" / "pictures"
SIZES: Final = {"phone": (390, 780), "desktop": (1100, 688)}
Scheme = Literal["dark", "light"]
Forms = Mapping[str, tuple[Scheme, ...]]
# A page opens in the other scheme than its first picture's: each change makes the map draw
# itself, and tell when it has.
FOUR: Final[Forms] = {"phone": ("dark", "light"), "desktop": ("dark", "light")}
# Of the states that are seen rarely.
TWO: Final[Forms] = {"phone": ("light",), "desktop": ("dark",)}
DATABASE: Final = "tracking_pictures"
# The best of which a picture is no larger than this.
QUALITIES: Final = (72, 60, 50, 42, 34, 26)
MOST_BYTES: Final = 60_000
# The overlay, and whatever glides.
SETTLED_MS: Final = 700
DRAWN: Final = """() => new Promise((resolve) => {
  const map = document.querySelector("#map");
  const seen = new MutationObserver(resolve);
  seen.observe(map, {attributes: true, attributeFilter: ["data-drawn"]});
  setTimeout(resolve, 8000);
})"""
HEARD: Final = """
UPDATE waypoints SET received_at = recorded_at + random() * interval '1.5 s';
UPDATE booking_facts SET heard_at = occurred_at + random() * interval '0.8 s';
WITH by_time AS (SELECT track_id, recorded_at,
        row_number() OVER (PARTITION BY track_id ORDER BY recorded_at) AS n FROM waypoints),
    by_seq AS (SELECT track_id, seq,
        row_number() OVER (PARTITION BY track_id ORDER BY seq) AS n FROM waypoints)
UPDATE waypoints w SET seq = by_seq.seq FROM by_time JOIN by_seq USING (track_id, n)
WHERE (w.track_id, w.recorded_at) = (by_time.track_id, by_time.recorded_at);"""
DRAWN_MS: Final = 25_000
TIMEOUT_MS: Final = 60_000
KNOWN_S: Final = 60.0

Act = Callable[[Page], None]


class Studio:
    """Opens pages of one server and takes their pictures."""

    def __init__(self, browser: Browser, environ: dict[str, str], stage: Stage) -> None:
        self._browser = browser
        self._environ = environ
        self._wanted = tuple(os.environ.get("PICTURES", "").split(","))
        self.failed: list[str] = []
        self.stage = stage
        self.base = f"http://127.0.0.1:{environ['SERVICE_PORT']}"

    def track(self, trip: Trip) -> str:
        return f"/track/{trip.booking_id}#token={self._token(trip.owner_id, 'owner')}"

    def ops(self) -> str:
        return f"/ops#token={self._token(str(uuid4()), 'admin')}"

    def link(self, trip: Trip, **terms: object) -> str:
        """Of a friend's page."""
        url = f"{self.base}/api/v1/tracking/{trip.booking_id}/share"
        token = self._token(trip.owner_id, "owner")
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        request = Request(url, json.dumps(terms).encode(), headers, method="POST")  # noqa: S310
        end = time.monotonic() + KNOWN_S
        while True:
            try:
                with urlopen(request, timeout=30) as answer:  # noqa: S310 - our own server
                    return f"/s/{json.load(answer)['data']['share_token']}"
            except HTTPError:  # its booking is still on its way
                if time.monotonic() > end:
                    raise
                time.sleep(0.5)

    def _token(self, user: str, role: str) -> str:
        return access_token(self._environ["JWT_SECRET"], UUID(user), role)

    @contextlib.contextmanager
    def opened(
        self, path: str, size: str, scheme: Scheme = "light", script: str = ""
    ) -> Iterator[Page]:
        width, height = SIZES[size]
        context = self._browser.new_context(
            viewport={"width": width, "height": height},
            locale="en-GB",
            timezone_id="Asia/Jakarta",
            color_scheme=scheme,
        )
        context.set_default_timeout(TIMEOUT_MS)
        if script:
            context.add_init_script(script)
        page = context.new_page()
        try:
            page.goto(self.base + path)
            yield page
        finally:
            context.close()

    def wants(self, name: str) -> bool:
        return name.startswith(self._wanted)

    def take(
        self, name: str, path: str, ready: Act, again: Act | None = None, script: str = "",
        forms: Forms = FOUR,
    ) -> None:  # fmt: skip
        """All pictures of a state; `ready` brings a page to it, `again` before each picture.
        One that cannot be taken is told and remembered: the others are taken all the same."""
        if not self.wants(name):
            return
        for size, schemes in forms.items():
            with self.opened(path, size, _other(schemes[0]), script) as page:
                try:
                    ready(page)
                    self.shoot(page, name, size, schemes, again)
                except Error as error:
                    self.failed.append(f"{name}-{size}")
                    say(f"{name}-{size}: {error}")
                    page.screenshot(path=logs_of(self._environ) / f"{name}-{size}.png")

    def shoot(
        self, page: Page, name: str, size: str, schemes: tuple[Scheme, ...],
        again: Act | None = None,
    ) -> None:  # fmt: skip
        for scheme in schemes:
            page.emulate_media(color_scheme=scheme)
            page.evaluate(DRAWN)
            page.wait_for_timeout(SETTLED_MS)
            if again is not None:
                again(page)
            path = FOLDER / f"{name}-{size}-{scheme}.jpg"
            _save(page, path)
            say(f"{path.name}, {path.stat().st_size / 1000:.0f} kB")

    def heard_in_time(self) -> None:
        """What lies in the past was told at once: store it as heard when it was, and in
        its order."""
        with contextlib.closing(_connect(self._environ, DATABASE)) as connection, connection:
            connection.cursor().execute(HEARD)

    @contextlib.contextmanager
    def delayed(self) -> Iterator[None]:
        """Nothing can be stored: the service falls behind."""
        with contextlib.closing(_connect(self._environ, DATABASE)) as connection:
            connection.cursor().execute("LOCK TABLE waypoints IN SHARE MODE")
            yield


def _save(page: Page, path: Path) -> None:
    for quality in QUALITIES:
        data = page.screenshot(type="jpeg", quality=quality)
        if len(data) <= MOST_BYTES:
            break
    path.write_bytes(data)


def _other(scheme: Scheme) -> Scheme:
    return "light" if scheme == "dark" else "dark"


def _connect(environ: Mapping[str, str], database: str) -> Connection:
    return psycopg2.connect(
        host=environ["DB_HOST"], port=environ["DB_PORT"], user=environ["DB_USER"],
        password=environ.get("DB_PASSWORD"), dbname=database,
    )  # fmt: skip


def empty_database(environ: Mapping[str, str]) -> None:
    """One seed's trips are the same each time: those of the last pictures must be gone."""
    with contextlib.closing(_connect(environ, "postgres")) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
        cursor.execute(f"CREATE DATABASE {DATABASE}")


def wait_drawn(page: Page) -> None:
    """A map that follows a trip is at rest only now and then, on a slow machine never: then it is
    shown as it is."""
    with contextlib.suppress(TimeoutError):
        page.locator("#map[data-drawn]").wait_for(state="attached", timeout=DRAWN_MS)


def says(selector: str, text: str) -> Act:
    """Until an element says this, and the map is there."""

    def wait(page: Page) -> None:
        page.locator(selector).filter(has_text=text).first.wait_for()
        if page.locator("#map").count():
            wait_drawn(page)

    return wait
