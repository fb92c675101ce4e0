"""deploy/systemd and the scripts, as far as they can be judged without a running systemd."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.running import CHECKOUT

DEPLOY = CHECKOUT / "deploy"
EXPOSURE = "11"  # tenths: 1.1 of 10
SERVICES = (
    "service-tracking-live@blue.service",
    "service-tracking-live@green.service",
    "service-tracking-ingest@1.service",
    "service-tracking-all.service",
)
SCRIPTS = ("install.sh", "upgrade.sh", "rollback.sh", "uninstall.sh", "pack.sh")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine's files, as far as units name them."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    units = tmp_path / "etc" / "systemd" / "system"
    shutil.copytree(DEPLOY / "systemd", units)
    for name in ("sysinit.target", "basic.target", "shutdown.target", "network-online.target",
                 "sockets.target", "multi-user.target", "umount.target"):  # fmt: skip
        (units / name).write_text("[Unit]\nDescription=of systemd\n")
    (units / "system.slice").write_text("[Unit]\nDescription=of systemd\n")
    for name in ("live-blue", "live-green", "ingest-1", "all"):
        python = tmp_path / "opt/service-tracking/instances" / name / ".venv/bin/python"
        python.parent.mkdir(parents=True)
        python.touch(0o755)
    return tmp_path


def analyze(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", f"--root={root}", *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.parametrize("unit", SERVICES)
def test_a_process_may_do_next_to_nothing(root: Path, unit: str) -> None:
    done = analyze(root, "security", "--offline=true", f"--threshold={EXPOSURE}", unit)
    assert done.returncode == 0, done.stdout
    assert "Overall exposure level" in done.stdout


@pytest.mark.parametrize("unit", [*SERVICES, "service-tracking.socket", "service-tracking.target",
                                  "service-tracking-management.socket"])  # fmt: skip
def test_systemd_finds_nothing_wrong(root: Path, unit: str) -> None:
    done = analyze(root, "--man=no", "verify", str(root / "etc/systemd/system" / unit))
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("name", ["live@", "all"])
def test_who_shares_a_listening_socket_never_makes_it_block(name: str) -> None:
    """Else whoever serves hangs in accept() from the start of the other colour on."""
    lines = (DEPLOY / "systemd" / f"service-tracking-{name}.service").read_text().splitlines()
    assert [line for line in lines if line.startswith("Sockets=")]
    assert "NonBlocking=yes" in lines


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_says_what_it_does_and_refuses_what_it_does_not_know(name: str) -> None:
    script = DEPLOY / name
    done = subprocess.run([script, "--help"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{name}" in done.stdout
    assert "#" not in done.stdout
    if name != "pack.sh":
        done = subprocess.run([script, "--nonsense"], capture_output=True, text=True)
        assert done.returncode == 1
        assert "see --help" in done.stderr


@pytest.mark.parametrize("name", [*SCRIPTS, "lib.sh"])
def test_shellcheck_has_nothing_to_say(name: str) -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    command = ["shellcheck", "-x", "-P", str(DEPLOY), "-e", "SC1091,SC2153", str(DEPLOY / name)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


PYTHON = """#!/bin/sh
[ "$1" = --version ] && exec echo Python 3.11.2
[ "$2" = venv ] || exit 0
mkdir -p "$4/bin" "$4/lib"
printf '#!/bin/sh\\necho "$@" >>"{log}"\\n' >"$4/bin/pip"
printf '#!/bin/sh\\n' >"$4/bin/python"
chmod +x "$4/bin/pip" "$4/bin/python"
"""


def test_packages_for_spans_are_installed_where_spans_are_sent(tmp_path: Path) -> None:
    release, python, log = tmp_path / "releases" / "1", tmp_path / "python", tmp_path / "pip.log"
    release.mkdir(parents=True)
    (tmp_path / "venvs").mkdir()
    for lock in ("requirements.lock", "requirements-otel.lock"):
        shutil.copy(CHECKOUT / lock, release)
    python.write_text(PYTHON.format(log=log))
    python.chmod(0o755)
    made = []
    for line in ("#OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4318", "OTEL_EXPORTER_OTLP_ENDPOINT=",
                 "OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4318"):  # fmt: skip
        (tmp_path / "env").write_text(f"{line}\n")
        script = f". {DEPLOY}/lib.sh; OPT={tmp_path} ETC={tmp_path} PYTHON={python}"
        subprocess.run(["bash", "-c", f"{script}; make_venv {release}"], check=True)
        made.append((release / ".venv").resolve())
    assert made[0] == made[1] != made[2]
    first, second = log.read_text().splitlines()
    assert first.endswith("/requirements.lock")
    assert second.endswith("/requirements-otel.lock")
