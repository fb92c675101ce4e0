"""dev.dashboard and deploy/prometheus: what is drawn, recorded and scraped exists."""

import json
import re
import shutil
import subprocess
from pathlib import Path

from dev.dashboard import DASHBOARD, dashboard, expressions, text
from tests.running import CHECKOUT
from tracking.metrics import Metrics

PROMETHEUS = CHECKOUT / "deploy" / "prometheus"
# Made beside Metrics, by the watchdog.
OTHERS = {"tracking_thread_cpu_seconds_total"}


def promtool(*arguments: str | Path) -> str:
    program = shutil.which("promtool")
    assert program is not None, "install the Debian package prometheus, or run `make setup`"
    done = subprocess.run([program, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def sample_names() -> set[str]:
    """Of all our metrics, as they are exposed; the buckets of a histogram stand for it."""
    found = set(OTHERS)
    for family in Metrics().registry.collect():
        if family.name.startswith("tracking_"):
            ending = {"counter": "_total", "histogram": "_bucket"}.get(family.type, "")
            found.add(family.name + ending)
    return found


def named(expression: str) -> set[str]:
    return set(re.findall(r"\btracking_\w+", expression))


def test_the_dashboard_is_what_its_panels_say() -> None:
    assert DASHBOARD.read_text() == text(), "run `python -m dev.dashboard`"


def test_every_metric_is_drawn_and_every_drawn_metric_exists() -> None:
    assert set().union(*map(named, expressions())) == sample_names()


def test_prometheus_understands_every_expression(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": each.replace("$__rate_interval", "5m")}
        for number, each in enumerate(expressions())
    ]
    path = tmp_path / "panels.yml"
    path.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    assert f"SUCCESS: {len(rules)} rules found" in promtool("check", "rules", path)


def test_panels_have_numbers_of_their_own_and_do_not_overlap() -> None:
    panels = dashboard()["panels"]
    assert len({each["id"] for each in panels}) == len(panels)
    covered = [
        (x, y)
        for each in panels
        for at in [each["gridPos"]]
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(covered) == len(set(covered))
    assert all(x < 24 for x, _ in covered)


def test_the_scrape_configuration_is_valid() -> None:
    promtool("check", "config", PROMETHEUS / "prometheus.yml")


def test_the_recorded_figures_are_right() -> None:
    promtool("test", "rules", PROMETHEUS / "recording_test.yml")
    rules, tests = ((PROMETHEUS / f"recording{end}.yml").read_text() for end in ("", "_test"))
    recorded = re.findall(r"record: (\S+)", rules)
    assert recorded
    for each in recorded:
        assert each in tests
    assert named(rules) <= sample_names()
