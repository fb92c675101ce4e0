"""Answers of the database that many viewers of one room want at once. IOLoop thread only."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, TypeVar

R = TypeVar("R")

# Viewers who come back together have missed the same. A page has up to 130 kB as text, so few are
# kept; each until nobody has asked for it for SHARED_S, and never longer than LONGEST_S, which is
# longer than a storm of reconnects.
SHARED: Final = 8
SHARED_S: Final = 5.0
LONGEST_S: Final = 60.0


class _Answer:
    """What the database answered to a question, or will answer."""

    __slots__ = ("future", "is_wanted")

    def __init__(self, future: asyncio.Future[Any]) -> None:
        self.future = future
        self.is_wanted = True  # since it was looked at last


class SharedAnswers:
    """The last few answers, by question. A question that failed is asked anew."""

    def __init__(self) -> None:
        self._answers: dict[tuple[object, ...], _Answer] = {}

    async def get(self, question: tuple[object, ...], ask: Callable[[], Awaitable[R]]) -> R:
        """The answer; `ask` is called only if nobody has asked the same. Raises what it raises."""
        answer = self._answers.pop(question, None)
        if answer is None:
            if len(self._answers) >= SHARED:
                del self._answers[next(iter(self._answers))]
            answer = _Answer(asyncio.ensure_future(ask()))
            answer.future.add_done_callback(partial(self._answered, question, answer))
        self._answers[question] = answer  # the newest is the last to be dropped
        answer.is_wanted = True
        found: R = await asyncio.shield(answer.future)
        return found

    def clear(self) -> None:
        """They are not true any more."""
        self._answers.clear()

    def _answered(
        self, question: tuple[object, ...], answer: _Answer, future: asyncio.Future[Any]
    ) -> None:
        failed = future.cancelled() or future.exception() is not None
        self._expire(question, answer, 0.0 if failed else LONGEST_S)

    def _expire(self, question: tuple[object, ...], answer: _Answer, left_s: float) -> None:
        """Every few seconds: keep what was wanted since, drop the rest."""
        if answer.is_wanted and left_s > 0:
            answer.is_wanted = False
            loop = asyncio.get_running_loop()
            loop.call_later(SHARED_S, self._expire, question, answer, left_s - SHARED_S)
        elif self._answers.get(question) is answer:
            del self._answers[question]
