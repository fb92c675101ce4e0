"""docs/ and deploy/: what they name is there, what they promise has its test."""

import ast
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.running import CHECKOUT, Server

RUNBOOK = (CHECKOUT / "docs" / "runbook.md").read_text()
GUARANTEES = (CHECKOUT / "docs" / "guarantees.md").read_text()
ALERTS = CHECKOUT / "deploy" / "prometheus" / "alerts.yml"
SOURCES = "".join(
    path.read_text()
    for folder in ("tracking", "workers", "handlers")
    for path in sorted((CHECKOUT / folder).rglob("*.py"))
) + (CHECKOUT / "server.py").read_text()  # fmt: skip
# What PostgreSQL says, not we.
OTHERS = ("could not extend file", "No space left on device", "ok", "database")


def anchors(page: str) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}


def metrics_of(server: Server) -> str:
    return str(server.get("/metrics")[1].decode())


def promtool(*arguments: str) -> tuple[int, str]:
    program = shutil.which("promtool")
    assert program is not None, "install the Debian package prometheus, or run `make setup`"
    done = subprocess.run([program, *arguments], capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def test_the_alerts_are_valid_and_each_fires_when_it_should_and_only_then() -> None:
    assert promtool("check", "rules", str(ALERTS))[0] == 0
    status, said = promtool("test", "rules", str(ALERTS.parent / "alerts_test.yml"))
    assert status == 0, said
    names = re.findall(r"alert: (\w+)", ALERTS.read_text())
    tests = (ALERTS.parent / "alerts_test.yml").read_text()
    for name in names:
        assert tests.count(f"alertname: {name}}}") == 1
        assert f'alertname="{name}"' in tests


def test_every_metric_of_an_alert_is_exported_and_every_runbook_entry_exists(
    server: Server,
) -> None:
    text, rules = metrics_of(server), ALERTS.read_text()
    for name in set(re.findall(r"\btracking_\w+", rules)):
        assert f"# HELP {name} " in text, name
    links = re.findall(r"runbook: docs/runbook.md#(\S+)", rules)
    assert len(links) == rules.count("alert:")
    assert set(links) <= anchors(RUNBOOK)


def test_every_metric_of_the_runbook_is_exported(server: Server) -> None:
    text = metrics_of(server)
    names = set(re.findall(r"`((?:tracking|process)_\w+)", RUNBOOK))
    assert names
    for name in names:
        assert f"# HELP {name} " in text, name


def entries(label: str) -> list[str]:
    """What stands in code quotes behind a label, up to the next one."""
    texts = re.findall(rf"^- \*\*{label}:\*\*(.*?)(?=^- |\Z|^#)", RUNBOOK, re.MULTILINE | re.DOTALL)
    return [quoted for text in texts for quoted in re.findall(r"`([^`]+)`", text)]


@pytest.mark.parametrize("quoted", entries("Log") + entries("Readiness"))
def test_every_line_that_the_runbook_quotes_is_one_of_ours(quoted: str) -> None:
    assert quoted in OTHERS or quoted in SOURCES


def test_every_entry_of_the_runbook_says_how_it_looks_and_when_it_is_over() -> None:
    parts = re.split(r"^## ", RUNBOOK, flags=re.MULTILINE)[1:-1]  # the last one is a procedure
    assert len(parts) > 8
    for part in parts:
        for label in ("Metrics", "By itself", "You", "Over"):
            assert f"- **{label}:**" in part, part.splitlines()[0]


@pytest.mark.parametrize("node", sorted(set(re.findall(r"`(\S+?::\w+)`", GUARANTEES))))
def test_every_test_that_proves_a_promise_is_there(node: str) -> None:
    path, _, name = node.partition("::")
    tree = ast.parse((CHECKOUT / path).read_text())
    tests = {
        each.name for each in tree.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert name in tests


def test_every_promise_names_a_test() -> None:
    promises = re.split(r"^\d+\. ", GUARANTEES, flags=re.MULTILINE)[1:]
    assert len(promises) >= 20
    for promise in promises:
        assert "::test_" in promise, promise.splitlines()[0]


ADRS = CHECKOUT / "docs" / "adr"


@pytest.mark.parametrize("page", sorted(ADRS.glob("[0-9]*.md")), ids=lambda page: page.stem)
def test_a_decision_has_its_headings_and_a_line_in_the_index(page: Path) -> None:
    text, number = page.read_text(), page.name[:4]
    title = re.match(rf"# {number}: (.+)\n\nStatus: ", text)
    assert title is not None
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert headings == ["Context", "Decision", "Consequences", "Considered"]
    assert f"| [{number}]({page.name}) | {title[1]} |" in (ADRS / "README.md").read_text()


def test_decisions_are_numbered_without_gaps() -> None:
    numbers = sorted(int(page.name[:4]) for page in ADRS.glob("[0-9]*.md"))
    assert numbers == list(range(1, len(numbers) + 1))


PAGES = [*CHECKOUT.glob("*.md"), *(CHECKOUT / "docs").rglob("*.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_links_lead_somewhere_and_files_that_are_named_exist(page: Path) -> None:
    text = page.read_text()
    for link in re.findall(r"\]\(([\w/.-]+\.\w+)(?:#[\w-]*)?\)", text):
        assert (page.parent / link).exists(), link
    folders = "tracking|handlers|workers|tests|faults|dev|docs|examples|deploy|alembic"
    named = rf"`((?:{folders})/[\w/.-]+\.\w+)"
    if page.name != "CHANGELOG.md":  # it tells of files that were
        for path in re.findall(named, text):
            assert (CHECKOUT / path).exists(), path


ARCHITECTURE = (CHECKOUT / "docs" / "architecture.md").read_text()
STEPS = re.findall(r"^\d+\. `([\w/.]+)` `([\w.]+)`", ARCHITECTURE, re.MULTILINE)


@pytest.mark.parametrize(("path", "name"), sorted(set(STEPS)))
def test_every_step_of_the_four_ways_is_there(path: str, name: str) -> None:
    nodes: list[ast.stmt] = ast.parse((CHECKOUT / path).read_text()).body
    for part in name.split("."):
        kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        found = [node for node in nodes if isinstance(node, kinds) and node.name == part]
        assert found, f"{path} has no {name}"
        nodes = found[0].body


def test_the_way_of_a_location_update_is_short() -> None:
    way = ARCHITECTURE.split("### One location update")[1].split("###")[0]
    assert len(re.findall(r"^\d+\. ", way, re.MULTILINE)) <= 14


def test_every_module_is_on_the_map() -> None:
    words = set(re.findall(r"\w+", ARCHITECTURE.split("```")[1]))
    modules = {
        path.stem
        for package in ("tracking", "handlers", "workers", "roles")
        for path in (CHECKOUT / package).rglob("*.py")
    }
    assert modules - words <= {"__init__"}
