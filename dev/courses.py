"""Where and when one trip moves: through the streets of a city, or along a GPX track."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Protocol

from dev.gpx import GpxPoint, positions_of, seconds_of
from dev.streets import (
    City,
    Crossing,
    Position,
    crossing_near,
    drive_between,
)


class Course(Protocol):
    """Seconds count from the moment at which the runner accepts."""

    pickup: Position
    dropoff: Position
    picked_up_s: float
    delivered_s: float

    def positions(self) -> Iterator[tuple[float, Position]]:
        """What the phone measures, and after how many seconds."""


class StreetCourse:
    """From some crossing to the pet, a short wait, and on to the pet's destination."""

    def __init__(
        self, city: City, start: Crossing, random: Random, interval_s: float, speed: float
    ) -> None:
        """`interval_s`: between two positions; `speed`: times the usual one."""
        here = crossing_near(random, start, 6, 20)
        there = crossing_near(random, here, 8, 30)
        self._approach = drive_between(city, start, here, random)
        self._delivery = drive_between(city, here, there, random)
        self._interval_s, self._speed = interval_s, speed
        self.end = there
        self.pickup, self.dropoff = self._delivery.at(0.0), self._delivery.at(float("inf"))
        self.picked_up_s = (self._approach.duration_s + random.uniform(10, 40)) / speed
        self.delivered_s = self.picked_up_s + self._delivery.duration_s / speed + 5.0

    def positions(self) -> Iterator[tuple[float, Position]]:
        """One for each interval; the speed as it really is at this factor."""
        index, seconds = 0, 0.0
        while seconds < self.delivered_s:
            yield seconds, self.at(seconds)
            index += 1
            seconds = index * self._interval_s

    def at(self, seconds: float) -> Position:
        """Where the runner is after so many seconds."""
        if seconds < self.picked_up_s:
            position = self._approach.at(seconds * self._speed)
        else:
            position = self._delivery.at((seconds - self.picked_up_s) * self._speed)
        return position._replace(speed_kmh=position.speed_kmh * self._speed)


class GpxCourse:
    """A recorded track; the pet is on board from its second point on."""

    def __init__(self, points: list[GpxPoint], interval_s: float | None, speed: float) -> None:
        """`interval_s`: between two points; None for the file's own times."""
        self._seconds = [each / speed for each in seconds_of(points, interval_s)]
        self._positions = positions_of(points, self._seconds)
        self.pickup, self.dropoff = self._positions[0], self._positions[-1]
        self.picked_up_s = self._seconds[1]
        self.delivered_s = self._seconds[-1] + 1.0

    def positions(self) -> Iterator[tuple[float, Position]]:
        """Exactly the points of the file."""
        return zip(self._seconds, self._positions, strict=True)
