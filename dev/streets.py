"""Streets of a made-up city on a real spot, and how a motorcycle moves along them.

Distances in metres on a plane around the city's centre (x east, y north); angles in radians,
clockwise from north, as a compass counts.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

METRES_PER_DEGREE = 111_195.0  # of latitude, on the mean sphere: a simulator needs no better
BLOCKS = 12  # the city reaches this many blocks from its centre, about 2.4 km
TURN_RADIUS_M = 12.0
TURN_SPEED = 4.5  # m/s, 16 km/h
ACCELERATION = 1.6  # m/s²; braking is as hard
LIGHTS = 0.15  # share of straight crossings at which the light is red
RUSH_HOURS = ((7, 9), (17, 19))
RUSH = 0.6  # of the usual speed

Crossing = tuple[int, int]


class Position(NamedTuple):
    """Where a phone is. Speed or heading is -1 when the phone does not know it."""

    latitude: float
    longitude: float
    speed_kmh: float
    heading_degrees: float


@dataclass(frozen=True)
class City:
    """A grid of streets around a centre, turned a little so that nothing runs due north."""

    name: str
    currency: str
    latitude: float
    longitude: float
    block_m: float
    turned: float
    utc_hours: int  # its time's offset

    def pace(self, time_ns: int) -> float:
        """How fast the traffic is at this time of its day, times the usual."""
        hour = time_ns / 3_600_000_000_000 % 24 + self.utc_hours
        return RUSH if any(begin <= hour % 24 < end for begin, end in RUSH_HOURS) else 1.0

    def on_plane(self, crossing: Crossing) -> tuple[float, float]:
        """The crossing's x and y before the grid is turned."""
        return crossing[0] * self.block_m, crossing[1] * self.block_m

    def position(self, x: float, y: float, heading: float, speed: float) -> Position:
        """A point of the unturned plane, moved to the globe; speed in m/s."""
        sine, cosine = math.sin(self.turned), math.cos(self.turned)
        east, north = x * cosine + y * sine, y * cosine - x * sine
        parallel = METRES_PER_DEGREE * math.cos(math.radians(self.latitude))
        return Position(
            self.latitude + north / METRES_PER_DEGREE,
            self.longitude + east / parallel,
            speed * 3.6,
            math.degrees(heading + self.turned) % 360.0,
        )


KUALA_LUMPUR = City("Kuala Lumpur", "MYR", 3.1478, 101.7003, 210.0, 0.31, 8)
JAKARTA = City("Jakarta", "IDR", -6.2146, 106.8272, 190.0, -0.12, 7)
CITIES = (KUALA_LUMPUR, JAKARTA)


class Piece(NamedTuple):
    """A part of a drive with one acceleration and one curvature (radians a metre)."""

    starts_s: float
    x: float
    y: float
    heading: float
    curvature: float
    speed: float
    acceleration: float


class Drive:
    """The way between two crossings as a function of time."""

    def __init__(self, city: City, corners: list[Crossing], random: Random) -> None:
        """`corners`: the start, every crossing where the drive turns, the end."""
        self.city = city
        self._pieces: list[Piece] = []
        self._random = random
        self._seconds, self._x, self._y = 0.0, *city.on_plane(corners[0])
        self._heading = 0.0
        self._build(corners)

    @property
    def duration_s(self) -> float:
        """From the first metre to the stop at the end."""
        return self._seconds

    def at(self, seconds: float) -> Position:
        """The position after so many seconds; before and after the drive it stands still."""
        clipped = min(max(seconds, 0.0), self._seconds)
        index = bisect_right(self._pieces, clipped, key=_starts) - 1
        piece = self._pieces[max(index, 0)]
        elapsed = clipped - piece.starts_s
        x, y, heading = _moved(piece, elapsed)
        return self.city.position(x, y, heading, piece.speed + piece.acceleration * elapsed)

    def _build(self, corners: list[Crossing]) -> None:
        speed = 0.0
        for index in range(len(corners) - 1):
            last = index == len(corners) - 2
            length = self._face(corners[index], corners[index + 1])
            blocks = round(length / self.city.block_m)
            length -= TURN_RADIUS_M * ((index > 0) + (not last))
            self._straight(length, blocks, speed, 0.0 if last else TURN_SPEED)
            speed = TURN_SPEED
            if not last:
                self._turn(_bearing(corners[index + 1], corners[index + 2]))
        self._stand(0.0)  # so that the drive ends in a standstill

    def _face(self, here: Crossing, there: Crossing) -> float:
        self._heading = _bearing(here, there)
        return self.city.block_m * (abs(there[0] - here[0]) + abs(there[1] - here[1]))

    def _straight(self, length: float, blocks: int, speed: float, leaving: float) -> None:
        """Now and then a red light in the middle of it, where there is a crossing."""
        if blocks > 1 and self._random.random() < LIGHTS * (blocks - 1):
            self._run(length / 2, speed, 0.0)
            self._stand(self._random.uniform(4, 25))
            self._run(length / 2, 0.0, leaving)
        else:
            self._run(length, speed, leaving)

    def _run(self, length: float, speed: float, leaving: float) -> None:
        """Accelerate to a cruising speed, hold it, slow down to the speed of leaving."""
        cruise = self._random.uniform(8.0, 13.0)  # 29 to 47 km/h
        # On a short stretch braking begins before the cruising speed is reached.
        reachable = math.sqrt(length * ACCELERATION + (speed**2 + leaving**2) / 2)
        cruise = min(cruise, reachable)
        speeding = (cruise**2 - speed**2) / (2 * ACCELERATION)
        braking = (cruise**2 - leaving**2) / (2 * ACCELERATION)
        self._add((cruise - speed) / ACCELERATION, speed, ACCELERATION)
        self._add((length - speeding - braking) / cruise, cruise, 0.0)
        self._add((cruise - leaving) / ACCELERATION, cruise, -ACCELERATION)

    def _turn(self, heading: float) -> None:
        angle = math.remainder(heading - self._heading, 2 * math.pi)
        length = TURN_RADIUS_M * math.pi / 2
        self._add(length / TURN_SPEED, TURN_SPEED, 0.0, angle / length)
        self._heading = heading

    def _stand(self, seconds: float) -> None:
        self._add(seconds, 0.0, 0.0)

    def _add(
        self, seconds: float, speed: float, acceleration: float, curvature: float = 0.0
    ) -> None:
        piece = Piece(
            self._seconds, self._x, self._y, self._heading, curvature, speed, acceleration
        )
        self._pieces.append(piece)
        self._x, self._y, _ = _moved(piece, seconds)
        self._seconds += seconds


def _starts(piece: Piece) -> float:
    return piece.starts_s


def _moved(piece: Piece, seconds: float) -> tuple[float, float, float]:
    """x, y and heading after so many seconds on the piece."""
    metres = piece.speed * seconds + piece.acceleration * seconds * seconds / 2
    start = piece.heading
    if not piece.curvature:
        return piece.x + metres * math.sin(start), piece.y + metres * math.cos(start), start
    heading = start + piece.curvature * metres
    x = piece.x + (math.cos(start) - math.cos(heading)) / piece.curvature
    y = piece.y + (math.sin(heading) - math.sin(start)) / piece.curvature
    return x, y, heading


def _bearing(here: Crossing, there: Crossing) -> float:
    return math.atan2(there[0] - here[0], there[1] - here[1])


def any_crossing(random: Random) -> Crossing:
    """A crossing somewhere in the city."""
    return random.randint(-BLOCKS, BLOCKS), random.randint(-BLOCKS, BLOCKS)


def crossing_near(random: Random, crossing: Crossing, nearest: int, farthest: int) -> Crossing:
    """Another crossing of the city, so many blocks away."""
    while True:
        x, y = any_crossing(random)
        if nearest <= abs(x - crossing[0]) + abs(y - crossing[1]) <= farthest:
            return x, y


def drive_between(city: City, start: Crossing, end: Crossing, random: Random) -> Drive:
    """One of the shortest ways on the grid, with a few turns."""
    steps = [(int(math.copysign(1, end[0] - start[0])), 0)] * abs(end[0] - start[0])
    steps += [(0, int(math.copysign(1, end[1] - start[1])))] * abs(end[1] - start[1])
    random.shuffle(steps)
    # A shuffle alone turns at every second crossing; nobody drives like that.
    for index in range(1, len(steps)):
        if random.random() < 0.6 and steps[index - 1] in steps[index:]:
            other = steps.index(steps[index - 1], index)
            steps[index], steps[other] = steps[other], steps[index]
    return Drive(city, _corners(start, steps), random)


def _corners(start: Crossing, steps: list[Crossing]) -> list[Crossing]:
    corners, here = [start], start
    for index, step in enumerate(steps):
        here = (here[0] + step[0], here[1] + step[1])
        if index == len(steps) - 1 or steps[index + 1] != step:
            corners.append(here)
    return corners
