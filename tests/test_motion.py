"""What of the pages is pure: motion, playback, the map's scale; the tests are in TypeScript."""

import json
import os
import re
from pathlib import Path
from random import Random
from typing import Any

from dev.courses import StreetCourse
from dev.streets import CITIES, any_crossing
from dev.web import NODE, WEB, run

TESTS = WEB / "test"
# MOTION_DRIVES=12 for the figures of docs/benchmarks.md: a minute and a half.
DRIVES = int(os.environ.get("MOTION_DRIVES", "2"))
STEP_S = 0.2


def drive(seed: int) -> dict[str, Any]:
    """A trip's true way, a place for each step."""
    random = Random(seed)
    course = StreetCourse(CITIES[seed % 2], any_crossing(random), random, STEP_S, 1.0)
    places = [[round(p.longitude, 7), round(p.latitude, 7)] for _, p in course.positions()]
    return {"stepMs": STEP_S * 1000, "places": places}


def test_the_marker_is_on_the_way_behind_the_last_fix_and_never_goes_back(tmp_path: Path) -> None:
    drives = tmp_path / "drives.json"
    drives.write_text(json.dumps([drive(seed) for seed in range(DRIVES)]))
    told = passed("playout.test.ts", f"DRIVES={drives}")
    print(*re.findall(r"^# (every .*)$", told, re.MULTILINE), sep="\n")


def test_a_playback_is_what_the_playout_shows_live() -> None:
    passed("playback.test.ts")


def test_a_scale_bar_is_as_long_as_it_says() -> None:
    passed("scale.test.ts")


def passed(name: str, *environment: str) -> str:
    """What Node's test runner tells of a file, all of whose tests pass."""
    test = TESTS / name
    told = run(["env", *environment, NODE, "--test", "--test-reporter=tap", test])
    written = len(re.findall(r"^(?:test|drivesAre)\(", test.read_text(), re.MULTILINE))
    assert written
    ran = re.search(r"\n# pass (\d+)\n", told)
    assert ran, told
    assert int(ran[1]) >= written, told
    return told
