"""tracking.domain.routes: the order of addition cannot show in a distance."""

import random
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from tracking.domain.routes import Gap, Vertex, growth_mm, lengths_mm

START = datetime(2026, 2, 6, 10, 30, tzinfo=UTC)
RUNNER = UUID(int=1)


def vertex(second: float, longitude: float, latitude: float = -6.2) -> Vertex:
    at = START + timedelta(seconds=second)
    return Vertex(at, RUNNER, at, longitude, latitude)


def test_a_degree_along_the_equator_is_as_long_as_on_the_ellipsoid() -> None:
    (length,) = lengths_mm([[vertex(0, 0, 0), vertex(1, 1, 0)]])
    assert length == 111_319_491  # 2π · 6,378,137 m / 360


def test_the_leg_between_two_chains_counts_for_neither() -> None:
    one, other = [vertex(0, 106.8), vertex(1, 106.801)], [vertex(2, 107.8), vertex(3, 107.801)]
    assert lengths_mm([one, other]) == [*lengths_mm([one]), *lengths_mm([other])]


def test_a_chain_without_legs_has_no_length() -> None:
    assert lengths_mm([[], [vertex(0, 106.8)], []]) == [0, 0, 0]


@pytest.mark.parametrize("seed", range(5))
def test_one_by_one_in_any_order_is_as_long_as_all_at_once(seed: int) -> None:
    dice = random.Random(seed)
    vertices = [vertex(n, 106.8 + dice.random() / 100, -6.2 + dice.random() / 100)
                for n in range(20)]  # fmt: skip
    (whole,) = lengths_mm([vertices])
    route: list[Vertex] = []
    total = 0
    for each in dice.sample(vertices, len(vertices)):
        before = max((v for v in route if v < each), default=None)
        after = min((v for v in route if v > each), default=None)
        total += growth_mm([(Gap(before, after), [each])])[0]
        route.append(each)
    assert total == whole


def test_runner_and_reported_time_decide_between_two_of_one_instant() -> None:
    one, other = vertex(0, 106.8), vertex(0, 106.9)._replace(runner_id=UUID(int=2))
    later = one._replace(reported_at=START + timedelta(seconds=9))
    assert sorted([later, other, one]) == [one, later, other]
