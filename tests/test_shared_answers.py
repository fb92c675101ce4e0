"""tracking.live.shared_answers: asked once for all, and forgotten in time."""

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

import pytest

from tracking.errors import DatabaseUnavailable
from tracking.live.shared_answers import LONGEST_S, SHARED_S, SharedAnswers

AT = datetime(2026, 2, 6, 10, 30, 0, 999999, tzinfo=UTC)


@pytest.mark.gen_test
async def test_an_answer_is_kept_while_a_crowd_wants_it_and_not_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers, asked, looks = SharedAnswers(), Counter[str](), list[Callable[[], None]]()

    async def want(question: str) -> None:
        async def ask() -> None:
            asked[question] += 1

        await answers.get((question,), ask)

    def call_later(_: float, look: Callable[..., None], *arguments: object) -> None:
        looks.append(partial(look, *arguments))

    monkeypatch.setattr(asyncio.get_running_loop(), "call_later", call_later)
    for _ in range(round(LONGEST_S / SHARED_S)):
        await want("often")
        await want("often")
        assert (asked["often"], len(looks)) == (1, 1)
        looks.pop()()
    assert looks == []
    await want("often")
    await want("once")
    assert asked == {"often": 2, "once": 1}
    for look in list(looks):
        look()
    await want("once")
    assert asked["once"] == 2


@pytest.mark.gen_test
async def test_a_question_that_failed_is_asked_anew_and_so_is_one_that_changed() -> None:
    answers, asked = SharedAnswers(), 0

    async def ask() -> int:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise DatabaseUnavailable("away")
        return asked

    with pytest.raises(DatabaseUnavailable):
        await answers.get(("what",), ask)
    assert [await answers.get(("what",), ask) for _ in range(3)] == [2, 2, 2]
    answers.clear()
    assert await answers.get(("what",), ask) == 3
