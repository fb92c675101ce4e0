"""requirements*.txt are the lists that people edit, *.lock what is installed: they agree."""

import re

import pytest

from tests.running import CHECKOUT

PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE)
LISTS = {"requirements.txt", "requirements-otel.txt", "requirements-dev.txt"}
# Lock -> the lists that it is made from.
LOCKS = {
    "requirements.lock": {"requirements.txt"},
    "requirements-otel.lock": {"requirements.txt", "requirements-otel.txt"},
    "requirements-dev.lock": LISTS,
}


def canonical(name: str) -> str:
    """As PEP 503 compares names of packages."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(file: str) -> dict[str, str]:
    """Version by name of all that a list or a lock pins."""
    text = (CHECKOUT / file).read_text()
    return {canonical(name): version for name, version in PIN.findall(text)}


def entries(lock: str) -> dict[str, str]:
    """What a lock says about each package: hashes, and who asks for it."""
    text = (CHECKOUT / lock).read_text()
    starts = [*PIN.finditer(text)]
    ends = [start.start() for start in starts[1:]] + [len(text)]
    return {
        canonical(start[1]): text[start.start() : end]
        for start, end in zip(starts, ends, strict=True)
    }


@pytest.mark.parametrize("file", sorted(LISTS))
def test_every_line_of_a_list_pins_a_package_and_says_why(file: str) -> None:
    for line in (CHECKOUT / file).read_text().splitlines():
        if line and not line.startswith("#"):
            assert re.fullmatch(r"[A-Za-z0-9._-]+==\S+ +# .+", line), line


@pytest.mark.parametrize("lock", sorted(LOCKS))
def test_a_lock_holds_what_its_lists_pin_and_nothing_that_nobody_wants(lock: str) -> None:
    wanted = {name: pin for file in LOCKS[lock] for name, pin in pins(file).items()}
    locked = pins(lock)
    assert {name: locked.get(name) for name in wanted} == wanted, "run `make lock`"
    asked = {name for name, text in entries(lock).items() if " -r requirements" in text}
    assert asked == set(wanted), "run `make lock`"


@pytest.mark.parametrize("lock", sorted(LOCKS))
def test_every_locked_package_has_its_hashes(lock: str) -> None:
    for name, text in entries(lock).items():
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", text), name


def test_the_server_runs_in_tests_on_what_it_is_deployed_with() -> None:
    development = pins("requirements-dev.lock")
    for lock in ("requirements.lock", "requirements-otel.lock"):
        for name, version in pins(lock).items():
            assert development[name] == version, name
