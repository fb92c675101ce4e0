"""Where dev.pictures takes its pictures: pages of one server, and its database."""

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Final
from urllib.error import HTTPError
from urllib.request import Request, urlopen
from uuid import UUID, uuid4

import psycopg2
from playwright.sync_api import Browser, Page
from psycopg2.extensions import connection as Connection

from dev.demo_environment import CHECKOUT, say
from dev.picture_trips import Stage
from dev.tokens import access_token
from dev.trips import Trip

FOLDER: Final = CHECKOUT / "docs" / "pictures"
SIZES: Final = {"phone": (390, 780), "desktop": (1100, 688)}
# Pages open light: each change makes the map draw itself, and tell when it has.
SCHEMES: Final = ("dark", "light")
DATABASE: Final = "tracking_pictures"
QUALITY: Final = {"phone": 72, "desktop": 60}
# The overlay, and whatever glides.
SETTLED_MS: Final = 700
DRAWN: Final = """() => new Promise((resolve) => {
  const map = document.querySelector("#map");
  const seen = new MutationObserver(resolve);
  seen.observe(map, {attributes: true, attributeFilter: ["data-drawn"]});
  setTimeout(resolve, 20000);
})"""
TIMEOUT_MS: Final = 90_000
KNOWN_S: Final = 60.0

Act = Callable[[Page], None]


class Studio:
    """Opens pages of one server and takes their pictures."""

    def __init__(self, browser: Browser, environ: dict[str, str], stage: Stage) -> None:
        self._browser = browser
        self._environ = environ
        self._wanted = os.environ.get("PICTURES", "")
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
    def opened(self, path: str, size: str, script: str = "") -> Iterator[Page]:
        width, height = SIZES[size]
        context = self._browser.new_context(
            viewport={"width": width, "height": height}, locale="en-GB", timezone_id="Asia/Jakarta"
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

    def take(
        self, name: str, path: str, ready: Act, again: Act | None = None, script: str = ""
    ) -> None:
        """All pictures of a state; `ready` brings a page to it, `again` before each picture."""
        if not name.startswith(self._wanted):
            return
        for size in SIZES:
            with self.opened(path, size, script) as page:
                ready(page)
                self.shoot(page, name, size, again)

    def shoot(self, page: Page, name: str, size: str, again: Act | None = None) -> None:
        for scheme in SCHEMES:
            page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
            page.evaluate(DRAWN)
            page.wait_for_timeout(SETTLED_MS)
            if again is not None:
                again(page)
            path = FOLDER / f"{name}-{size}-{scheme}.jpg"
            page.screenshot(path=path, type="jpeg", quality=QUALITY[size])
            say(f"{path.name}, {path.stat().st_size / 1000:.0f} kB")

    @contextlib.contextmanager
    def delayed(self) -> Iterator[None]:
        """Nothing can be stored: the service falls behind."""
        with contextlib.closing(_connect(self._environ, DATABASE)) as connection:
            connection.cursor().execute("LOCK TABLE waypoints IN SHARE MODE")
            yield


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


def says(selector: str, text: str) -> Act:
    """Until an element says this, and the map is there."""

    def wait(page: Page) -> None:
        page.locator(selector).filter(has_text=text).first.wait_for()
        if page.locator("#map").count():
            page.locator("#map[data-drawn]").wait_for(state="attached")

    return wait
