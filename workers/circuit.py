"""Whether somebody who did not answer is asked again. IOLoop thread only."""

import time
from collections.abc import Callable
from typing import Final

FAILURES: Final = 3
FIRST_PAUSE_S: Final = 30.0
LONGEST_PAUSE_S: Final = 300.0


class Circuit:
    """Closed: everybody asks. FAILURES in a row open it: nobody does for a pause, then one does.

    That one's answer closes it; without one the next pause is twice as long.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._is_trying = False
        self._pause_s = 0.0  # 0: closed
        self._until = 0.0

    @property
    def is_open(self) -> bool:
        """Also while the one who may try has no answer yet."""
        return self._pause_s > 0

    @property
    def pause_s(self) -> float:
        """How long the present pause lasts, 0 while it is closed."""
        return self._pause_s

    def may_ask(self) -> bool:
        """Whoever may tells `succeeded` or `failed`."""
        if not self.is_open:
            return True
        if self._is_trying or self._clock() < self._until:
            return False
        self._is_trying = True
        return True

    def succeeded(self) -> bool:
        """Whether that closed it. Who had asked before it opened decides nothing."""
        if self.is_open and not self._is_trying:
            return False
        was_open, self._is_trying = self.is_open, False
        self._failures, self._pause_s = 0, 0.0
        return was_open

    def failed(self) -> bool:
        """Whether that opened it, once more or for the first time."""
        if self.is_open and not self._is_trying:
            return False
        self._is_trying = False
        self._failures += 1
        if self._failures < FAILURES:
            return False
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S) or FIRST_PAUSE_S
        self._until = self._clock() + self._pause_s
        return True
