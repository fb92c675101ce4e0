"""What a live process knows of those that store: who they are, and how far they are behind."""

import time
from math import inf
from typing import Final

from tracking.wire.relay import SignOfLife

# A sign comes every second; one that is late says nothing yet.
LATE_S: Final = 5.0
# Kafka gives the partitions of a dead member to another after 45 s (session.timeout.ms); until then
# nobody reads them, whatever the others say of themselves.
FORGOTTEN_S: Final = 60.0


class IngestProcesses:
    """`tell` on the relay's thread, the rest on any."""

    def __init__(self) -> None:
        self._heard: dict[str, tuple[float, float]] = {}  # when, and by how much it was behind
        self._last_at: float | None = None

    def tell(self, sign: SignOfLife) -> None:
        """A sign has come. Those of one second come in each partition: the last one counts."""
        self._last_at = time.monotonic()
        heard = self._heard.copy()
        if sign.leaves:
            heard.pop(sign.process, None)
        else:
            heard[sign.process] = self._last_at, sign.delay_s
        self._heard = {
            name: each for name, each in heard.items() if self._last_at - each[0] < FORGOTTEN_S
        }

    def __len__(self) -> int:
        """Those that have told lately."""
        return sum(age < LATE_S for age in self._ages())

    def _ages(self) -> list[float]:
        now = time.monotonic()
        return [now - at for at, _ in self._heard.values()]

    def silence_s(self) -> float:
        """Since any of them was heard; infinite if never."""
        return inf if self._last_at is None else time.monotonic() - self._last_at

    def delay_s(self) -> float:
        """How far the last of them is behind, in seconds; infinite while nobody knows.

        One that has fallen silent is behind by its silence, too: nobody reads its partitions.
        """
        now = time.monotonic()
        delays = [delay_s + _late(now - at) for at, delay_s in self._heard.values()]
        return max(delays) if delays else self.silence_s()


def _late(age_s: float) -> float:
    return age_s if age_s > LATE_S else 0.0
