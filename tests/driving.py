"""The client library in a process of its own: web/client/test/driver.ts, told and listened to."""

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from dev.web import NODE
from tests.running import CHECKOUT, wait_until

DRIVER = CHECKOUT / "web" / "client" / "test" / "driver.ts"
PATH = "/ws/tracking/5b1c8a52-93a5-4a5f-a7fb-6f1b8f0d2d10"
Event = dict[str, Any]
Drive = Callable[..., "Driver"]


class Driver:
    """One Trip; what it told is in a file."""

    def __init__(self, port: int, folder: Path, path: str = PATH, **options: Any) -> None:
        """`token`: what the callback gives at first, None for no callback; the rest are options."""
        self._folder = folder
        token = options.pop("token", "first-token")
        given = {"server": f"http://127.0.0.1:{port}", "path": path, **options}
        self.token_file = folder / "token"
        self.token_file.write_text(token or "")
        arguments = [json.dumps(given), *([str(self.token_file)] if token else [])]
        with (folder / "out").open("wb") as out, (folder / "errors").open("wb") as errors:
            self.process = subprocess.Popen(
                [NODE, DRIVER, *arguments], stdin=subprocess.PIPE, stdout=out, stderr=errors,
                env={"NODE_NO_WARNINGS": "1"},
            )  # fmt: skip

    def tell(self, command: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{command}\n".encode())
        self.process.stdin.flush()

    def tell_until(self, command: str, is_so: Callable[[], object]) -> None:
        def told() -> object:
            self.tell(command)
            return is_so()

        wait_until(told, f"what follows from {command}")

    @property
    def errors(self) -> str:
        return (self._folder / "errors").read_text()

    def events(self, *kinds: str) -> list[Event]:
        """What it told, whole lines only; of these kinds, or all."""
        assert self.process.poll() is None, self.errors
        text = (self._folder / "out").read_text()
        events = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
        return [event for event in events if not kinds or event["kind"] in kinds]

    def wait(self, kind: str, **fields: Any) -> Event:
        """The first event of this kind that has these fields."""
        return next(iter(self.wait_all(1, kind, **fields)))

    def wait_all(self, count: int, kind: str, **fields: Any) -> list[Event]:
        """All such events, as soon as there are so many."""

        def found() -> list[Event]:
            wanted = [e for e in self.events(kind) if fields.items() <= e.items()]
            return wanted if len(wanted) >= count else []

        events: list[Event] = wait_until(found, f"{kind} {fields}")
        return events

    def state(self) -> Event:
        """As it is now."""
        before = len(self.events("asked"))
        self.tell("state")
        return self.wait_all(before + 1, "asked")[-1]

    def wait_state(self, **fields: Any) -> Event:
        """As soon as it is so."""

        def found() -> Event:
            state = self.state()
            return state if fields.items() <= state.items() else {}

        state: Event = wait_until(found, str(fields))
        return state

    def tokens(self) -> list[str]:
        """Why it asked for one."""
        return [event["why"] for event in self.events("token")]

    def added(self) -> list[int]:
        """Every waypoint, as often as it was told."""
        return [seq for event in self.events("route") for seq in event["added"]]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdin is not None
        self.process.stdin.close()


@contextmanager
def drivers(folder: Path) -> Iterator[Drive]:
    """Starts drivers, and ends them all."""
    with ExitStack() as stack:

        def start(port: int, path: str = PATH, **options: Any) -> Driver:
            own = folder / f"driver{len(list(folder.glob('driver*')))}"
            own.mkdir()
            driver = Driver(port, own, path, **options)
            stack.callback(partial(driver.close))
            return driver

        yield start
