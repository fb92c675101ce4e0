"""Why and by when the process ends: one deadline for every step of a stop."""

import asyncio
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Final

log = logging.getLogger("tracking.server")

# For all steps together, unless there are many viewers. Supervisors kill after that.
STOP_S: Final = 17.0
# Whatever still hangs then (a thread in a call to a database that hangs) is left behind.
LEAVE_S: Final = 18.5
# Threads that have nothing to do need so long to notice that they are not needed any more.
THREADS_END_S: Final = 0.5

EXIT_FAILED: Final = 1


class Stop:
    """Told by a signal, or by a worker that died. Made once, on the main thread."""

    def __init__(self) -> None:
        self.failures: list[BaseException] = []
        # No lock: a signal may come while the main thread is in any line of this class.
        self._told = False
        self._wake: Callable[[], object] | None = None
        self._end: float | None = None  # time.monotonic()
        self._last: threading.Timer | None = None

    def listen(self) -> None:
        """From now on a signal stops the process in order, before and after the loop runs, too."""
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, lambda *_: self._tell())

    def died(self, error: BaseException) -> None:
        """A dead worker behind a healthy port is the worst state. Any thread."""
        self.failures.append(error)
        self._tell()

    async def wait(self) -> None:
        """Until told; then the deadline runs."""
        loop, woken = asyncio.get_running_loop(), asyncio.Event()
        self._wake = lambda: loop.call_soon_threadsafe(woken.set)
        if not self._told:
            await woken.wait()
        self._wake = None
        self._left()
        log.info("stopping")

    def share(self, at_most_s: float) -> float:
        """What one step may take, in seconds."""
        return max(min(at_most_s, self._left()), 0.0)

    async def within(
        self, at_most_s: float, what: str, step: Callable[[], Awaitable[object]]
    ) -> None:
        """One step, given up when its share is over."""
        seconds = self.share(at_most_s)
        try:
            async with asyncio.timeout(seconds):
                await step()
        except TimeoutError:
            log.warning("%s not done within %.1f s", what, seconds)

    def status(self) -> int:
        """The exit status, once, with the line that gives its reason."""
        if self.failures:
            log.critical("stopped because a worker died: %r", self.failures[0])
            return EXIT_FAILED
        log.info("stopped")
        return 0

    def leave(self, status: int) -> int:
        """The same status; does not return if a thread hangs: Python would wait for it."""
        end = time.monotonic() + THREADS_END_S
        for thread in threading.enumerate():
            if thread is not threading.main_thread() and not thread.daemon:
                thread.join(max(end - time.monotonic(), 0.0))
                if thread.is_alive():
                    log.warning("the thread %s hangs and is left behind", thread.name)
                    _exit(status)
        return status

    def _tell(self) -> None:
        self._told = True
        wake = self._wake
        if wake is not None:
            try:
                wake()
            except RuntimeError:
                return  # the loop is closed: the stop is over

    def allow(self, more_s: float) -> None:
        """A stop that has more to do than usual takes longer."""
        left = self._left()
        if more_s > 0:
            self._end = time.monotonic() + left + more_s
            self._leave_in(left + more_s + LEAVE_S - STOP_S)

    def _left(self) -> float:
        if self._end is None:
            self._end = time.monotonic() + STOP_S
            self._leave_in(LEAVE_S)
        return self._end - time.monotonic()

    def _leave_in(self, seconds: float) -> None:
        if self._last is not None:
            self._last.cancel()
        self._last = threading.Timer(seconds, self._leave_all)
        self._last.daemon = True
        self._last.start()

    def _leave_all(self) -> None:
        log.warning("the stop takes too long: what hangs is left behind")
        _exit(self.status())


def _exit(status: int) -> None:
    """At once, without waiting for threads."""
    logging.shutdown()
    sys.stdout.flush()
    os._exit(status)
