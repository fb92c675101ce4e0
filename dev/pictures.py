"""Pictures of every state of the pages, in docs/pictures: `make pictures`.

A real server, simulated trips, Debian's Chromium; phone and desktop, light and dark.
PICTURES=ops-,shared- takes only those whose names begin so. docs/pictures.md shows them.
"""

import contextlib
import os
import shutil
import sys
from typing import Final
from uuid import uuid4

from playwright.sync_api import Page, sync_playwright

from dev.demo import started_server
from dev.demo_environment import DemoError, environment
from dev.picture_trips import Stage
from dev.studio import DATABASE, FOLDER, TWO, Studio, empty_database, says, wait_drawn

# The same trips each time.
SEED: Final = 7
FLAGS: Final = ("--no-sandbox", "--disable-background-networking", "--no-first-run")
NO_WEBGL: Final = """
const get = HTMLCanvasElement.prototype.getContext;
HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
  return kind.startsWith("webgl") ? null : get.call(this, kind, ...rest);
};"""


def owners(studio: Studio) -> None:
    stage = studio.stage
    live = studio.track(stage.live)
    studio.take("track-live", live, says("#badge", "Live"))
    studio.take("track-early", studio.track(stage.early), says("#position", "No position"))
    studio.take("track-silent", studio.track(stage.silent), says("#notice", "phone is silent"))
    studio.take("track-gap", studio.track(stage.gap), whole, forms=TWO)
    studio.take("track-filled", studio.track(stage.gap), whole,
                lambda page: filled(page, stage), forms=TWO)  # fmt: skip
    studio.take("track-over", studio.track(stage.over), over, forms=TWO)
    studio.take("track-plain", live, says("#badge", "Live"), script=NO_WEBGL,
                forms=TWO)  # fmt: skip
    studio.take("track-unknown", f"/track/{uuid4()}{live[live.index('#') :]}",
                says("#headline", "cannot be shown"), forms=TWO)  # fmt: skip

    def cut(page: Page) -> None:
        whole(page)
        page.context.set_offline(True)
        says("#notice", "interrupted")(page)

    studio.take("track-down", live, cut, forms=TWO)


def whole(page: Page) -> None:
    """All of a live trip."""
    page.locator("#badge").filter(has_text="Live").wait_for()
    wait_drawn(page)
    page.click("#whole")


def over(page: Page) -> None:
    """One that was over before its page opened does not change: it may have come too early."""
    says("#facts", "Duration")(page)
    while not page.inner_text("#position"):
        page.wait_for_timeout(3000)
        page.reload()
        says("#facts", "Duration")(page)
    page.click("#whole")


def filled(page: Page, stage: Stage) -> None:
    stage.fill(0.25)
    page.locator("#toast").filter(has_text="Filled in").wait_for()
    page.wait_for_timeout(300)


def friends(studio: Studio) -> None:
    stage = studio.stage
    link = studio.link(stage.live, label="Grandma", expires_in_s=86_400)
    studio.link(stage.live, label="The vet", **{"from": "pickup"})
    studio.take("shared-live", link, says("#badge", "Live"))
    studio.take("shared-refused", f"/s/{'x' * 43}", says("#headline", "cannot be shown"), forms=TWO)

    def dialog(page: Page) -> None:
        says("#badge", "Live")(page)
        page.click("#share")
        page.locator(".viewers").filter(has_text="looks now").wait_for()
        page.get_by_role("button", name="Change the end: Grandma").click()

    with studio.opened(link, "phone") as friend:
        says("#badge", "Live")(friend)
        studio.take("track-sharing", studio.track(stage.live), dialog, forms=TWO)


def operators(studio: Studio) -> None:
    path = studio.ops()

    def found(page: Page) -> None:
        says("#count", "trips")(page)
        page.fill("input[type=search]", studio.stage.over_number)
        page.locator(".found").first.click()
        page.locator("#detail .events li").first.wait_for()

    def played(page: Page) -> None:
        found(page)
        page.fill("#detail input[type=range]", "450")
        page.get_by_role("button", name="Play").click()
        page.wait_for_timeout(1500)

    def selected(page: Page) -> None:
        says("#count", "trips")(page)
        page.locator(".row:not([hidden])").nth(3).click()
        page.locator("#detail .events li").first.wait_for()

    def service(page: Page) -> None:
        says("#count", "trips")(page)
        page.get_by_role("button", name="Service").click()
        page.locator(".checks li").first.wait_for()

    studio.heard_in_time()
    studio.take("ops-fleet", path, says("#count", "trips"))
    studio.take("ops-trip", path, selected, forms=TWO)
    studio.take("ops-playback", path, played, forms=TWO)
    studio.take("ops-service", path, service, forms=TWO)


def behind(studio: Studio) -> None:
    """Last: what it leaves is a service that catches up."""
    if not studio.wants("track-behind"):
        return
    path = studio.track(studio.stage.live)
    with studio.opened(path, "phone", "dark") as phone, studio.opened(path, "desktop") as desktop:
        pages = {"phone": phone, "desktop": desktop}
        for page in pages.values():
            says("#badge", "Live")(page)
        with studio.delayed():
            for size, page in pages.items():
                says("#notice", "service is behind")(page)
                studio.shoot(page, "track-behind", size, TWO[size])


def main() -> int:
    """The exit status."""
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    FOLDER.mkdir(exist_ok=True)
    try:
        with contextlib.ExitStack() as stack:
            environ = {**environment(stack), "DB_NAME": DATABASE}
            empty_database(environ)
            started_server(stack, environ)
            stage = stack.enter_context(
                Stage(environ["KAFKA_BROKERS"], environ["KAFKA_TOPIC_PREFIX"], SEED)
            )
            driver = stack.enter_context(sync_playwright())
            browser = driver.chromium.launch(executable_path=chromium, args=list(FLAGS))
            stack.callback(browser.close)
            studio = Studio(browser, environ, stage)
            for pictures in (owners, friends, operators, behind):
                pictures(studio)
    except DemoError as error:
        print(f"pictures: {error}", file=sys.stderr)
        return 1
    print("\n".join(f"pictures: none of {name}" for name in studio.failed), end="", file=sys.stderr)
    return 1 if studio.failed else 0


if __name__ == "__main__":
    sys.exit(main())
