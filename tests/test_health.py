"""handlers.api.health: what machines ask."""

import shutil
import subprocess

from tests.running import Server


def test_metrics_follow_the_conventions(server: Server) -> None:
    text = server.get("/metrics")[1]
    promtool = shutil.which("promtool")
    assert promtool is not None, "install the Debian package prometheus, or run `make setup`"
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, check=False
    )
    assert (checked.returncode, checked.stderr.decode()) == (0, "")


def test_health_and_readiness_say_what_the_platform_expects(server: Server) -> None:
    assert server.get("/health")[1] == {"status": "healthy", "service": "service-tracking"}
    status, body, _ = server.get("/readiness")
    checks = {name: answer.partition(",")[0] for name, answer in body["checks"].items()}
    assert (status, body["status"], set(checks.values())) == (200, "ready", {"ok"})
    assert "outgoing" in checks
