"""Random scenarios, seeds and outages, one round after another: `python -m faults.soak`.

Ends with the first failure, which says how to play it again, or after SOAK_HOURS.
"""

import os
import random
import secrets
import subprocess
import sys
import time
from typing import Final

from dev.private_server import CHECKOUT

PYTEST: Final = [sys.executable, "-m", "pytest", "faults", "-q", "-o", "timeout=900"]
# A round starts servers of its own, and so pays for some scenarios.
SCENARIOS_A_ROUND: Final = 8
OUTAGES_S: Final = (2, 6, 20, 60)


def scenarios() -> list[str]:
    """All of them, as pytest names them."""
    done = subprocess.run([*PYTEST, "--collect-only"], cwd=CHECKOUT, capture_output=True, text=True)
    return [line for line in done.stdout.splitlines() if "::" in line]


def play(picked: list[str], seed: str, outage_s: int) -> bool:
    """One round; False if a scenario failed."""
    environ = {**os.environ, "FAULTS_SEED": seed, "FAULTS_OUTAGE_S": str(outage_s)}
    argv = [*PYTEST[:3], *PYTEST[4:], "-n", "2", *picked]
    return subprocess.run(argv, cwd=CHECKOUT, env=environ).returncode == 0


def main() -> int:
    """The exit status."""
    hours = float(os.environ.get("SOAK_HOURS", "inf"))
    end = time.monotonic() + hours * 3600
    names, rounds = scenarios(), 0
    while time.monotonic() < end:
        seed, outage_s = secrets.token_hex(4), random.choice(OUTAGES_S)
        rounds += 1
        print(f"soak: round {rounds}, FAULTS_SEED={seed} FAULTS_OUTAGE_S={outage_s}", flush=True)
        if not play(random.sample(names, SCENARIOS_A_ROUND), seed, outage_s):
            return 1
    print(f"soak: {rounds} rounds without a failure")
    return 0


if __name__ == "__main__":
    sys.exit(main())
