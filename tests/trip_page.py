"""The page of one trip in a browser: opened, and compared with what the database has."""

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from playwright.sync_api import TimeoutError

from tests.browser import Tab
from tests.running import Platform, Server, Trip
from tests.served import wait_seq

# What the overlay has drawn: see web/src/map/overlay.ts.
DRAWN = """() => document.querySelector(".overlay").drawn().route.map(
  ({seq, longitude, latitude}) => [seq, longitude, latitude])"""
IS_DRAWN = """(wanted) => {
  const drawn = document.querySelector(".overlay")?.drawn().route ?? [];
  return drawn.length === wanted.length && drawn.every(({seq, longitude, latitude}, index) =>
    JSON.stringify([seq, longitude, latitude]) === JSON.stringify(wanted[index]));
}"""


def moving_trip(server: Server, platform: Platform, waypoints: int = 5, minutes: float = 1) -> Trip:
    """Accepted so many minutes ago; its waypoints, a second apart, are stored."""
    trip = Trip(datetime.now(UTC) - timedelta(minutes=minutes))
    platform.accept(trip)
    for second in range(waypoints):
        platform.update(trip, second)
    wait_seq(server, trip, waypoints)
    return trip


def address(server: Server, trip: Trip) -> str:
    return f"http://127.0.0.1:{server.port}/track/{trip.booking_id}"


def open_track(tab: Tab, server: Server, trip: Trip, **claims: object) -> None:
    token = server.token(trip.owner_id, "owner", **claims)
    tab.page.goto(f"{address(server, trip)}#token={token}")


def open_live(tab: Tab, server: Server, trip: Trip) -> None:
    """Until its position is known and there is a map."""
    open_track(tab, server, trip)
    tab.wait_text("#position", "° E")
    wait_map(tab)


def wait_map(tab: Tab) -> None:
    """Until the map has been drawn once, its worker included."""
    tab.page.locator("#map[data-drawn]").wait_for(state="attached")


def hide(tab: Tab) -> None:
    """Headless pages are always visible; this is what they would be told."""
    tab.page.evaluate("""() => {
      Object.defineProperty(document, "visibilityState", {value: "hidden", configurable: true});
      document.dispatchEvent(new Event("visibilitychange"));
    }""")


def show(tab: Tab) -> None:
    tab.page.evaluate("""() => {
      delete document.visibilityState;
      document.dispatchEvent(new Event("visibilitychange"));
    }""")


def stored_route(engine: sa.Engine, trip: Trip) -> list[list[float]]:
    """The route in the table, by recorded time: number, longitude, latitude."""
    statement = sa.text(
        "SELECT seq, round(ST_X(position)::numeric, 6)::float8,"
        " round(ST_Y(position)::numeric, 6)::float8"
        " FROM waypoints w JOIN tracks t ON t.id = w.track_id"
        " WHERE t.booking_id = :id AND in_route ORDER BY recorded_at, seq"
    )
    with engine.connect() as connection:
        return [list(row) for row in connection.execute(statement, {"id": trip.booking_id})]


def wait_route(tab: Tab, engine: sa.Engine, trip: Trip) -> None:
    """Until the line on the map is the route in the table, exactly."""
    wanted = stored_route(engine, trip)
    try:
        tab.wait(IS_DRAWN, wanted)
    except TimeoutError as error:
        panel, drawn = tab.text("#panel"), tab.page.evaluate(DRAWN)
        raise AssertionError(f"drawn: {drawn}, not {wanted}; {panel}") from error
