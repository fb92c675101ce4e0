"""handlers.link_check: which links' sockets are closed, with what, and how soon."""

import asyncio
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from handlers import link_check
from handlers.link_check import ANSWER_S, CHECK_S, check_links
from handlers.link_viewers import LinkViewers
from tests.viewing import first_of
from tracking.errors import DatabaseUnavailable
from tracking.wire.close_codes import CloseCode

SOON = datetime.now(UTC) + timedelta(hours=1)


class Looker:
    """A viewer without a socket: remembers what it was told."""

    def __init__(self, viewers: LinkViewers, share_id: UUID | None = None) -> None:
        self.share_id = share_id or uuid4()
        self.viewers = viewers
        self.told: list[int | datetime] = []
        viewers.add(self)

    def close(self, code: CloseCode) -> None:
        self.told.append(code.code)
        self.viewers.remove(self)

    def renew(self, expires_at: datetime) -> None:
        self.told.append(expires_at)


class Links:
    """The table, as far as the check asks for it."""

    def __init__(self, rounds: int) -> None:
        self.open: dict[UUID, datetime] = {}
        self.asked: list[list[UUID]] = []
        self.is_away = False
        self._rounds, self.enough = rounds, asyncio.Event()

    async def ask(self, share_ids: Collection[UUID]) -> dict[UUID, datetime]:
        self.asked.append(list(share_ids))
        if len(self.asked) >= self._rounds:
            self.enough.set()
        if self.is_away:
            raise DatabaseUnavailable("the database does not answer")
        return {each: self.open[each] for each in share_ids if each in self.open}

    async def check(self, viewers: LinkViewers) -> None:
        await first_of(asyncio.create_task(check_links(viewers, self.ask)), self.enough)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_check, "CHECK_S", 0.001)
    monkeypatch.setattr(link_check, "PAUSE_S", 0.001)


def test_a_revoked_link_is_closed_within_a_second_whatever_happens() -> None:
    """Revoked right behind one check; the next one begins so much later, and may take so long."""
    assert CHECK_S + ANSWER_S < 1.0


@pytest.mark.gen_test
async def test_all_links_are_asked_about_at_once_and_those_that_are_over_close() -> None:
    viewers, links = LinkViewers(), Links(3)
    revoked, kept = Looker(viewers), Looker(viewers)
    same = Looker(viewers, revoked.share_id)
    links.open = {kept.share_id: SOON}
    await links.check(viewers)
    assert revoked.told == same.told == [4503]
    assert set(kept.told) == {SOON}
    assert sorted(links.asked[0]) == sorted([revoked.share_id, kept.share_id])
    assert links.asked[1:] == [[kept.share_id]] * (len(links.asked) - 1)
    assert (viewers.count(revoked.share_id), viewers.count(kept.share_id)) == (0, 1)


@pytest.mark.gen_test
async def test_who_joins_while_the_database_is_asked_waits_for_the_next_time() -> None:
    viewers, links = LinkViewers(), Links(1)
    first = Looker(viewers)
    late: list[Looker] = []
    links.open = {first.share_id: SOON}
    answer = links.ask

    async def ask(share_ids: Collection[UUID]) -> dict[UUID, datetime]:
        found = await answer(share_ids)
        late.append(Looker(viewers))
        return found

    links.ask = ask  # type: ignore[method-assign]
    await links.check(viewers)
    assert late[0].told == []


@pytest.mark.gen_test
async def test_what_nobody_can_answer_closes_and_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    viewers, links = LinkViewers(), Links(3)
    links.is_away = True
    first = Looker(viewers)

    class Returning(Looker):
        def close(self, code: CloseCode) -> None:
            super().close(code)
            Looker(viewers, self.share_id)

    returning = Returning(viewers)
    another = Returning(viewers, returning.share_id)
    links._rounds = 2
    await links.check(viewers)
    assert first.told == returning.told == another.told == [1013]
    assert len(links.asked) >= 2
    assert len([each for each in caplog.records if "cannot be checked" in each.message]) == 1


@pytest.mark.gen_test
async def test_while_nobody_looks_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    viewers, links, rounds, enough = LinkViewers(), Links(1), 0, asyncio.Event()
    sleep = asyncio.sleep

    async def counted(seconds: float) -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 3:
            enough.set()
        await sleep(seconds)

    monkeypatch.setattr(asyncio, "sleep", counted)
    await first_of(asyncio.create_task(check_links(viewers, links.ask)), enough)
    assert links.asked == []


def test_memory_follows_those_who_are_here() -> None:
    viewers = LinkViewers()
    looker = Looker(viewers)
    viewers.remove(looker)
    viewers.remove(looker)
    assert viewers.share_ids() == []
    assert viewers.count(uuid4()) == 0
    assert viewers.share_ids() == []
