"""The simulator's streets as GeoJSON, for the built-in map style: pets walk along streets then.

`python -m dev.street_map FILE` writes it. The same streets each time, whatever the seed of a trip.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, Final

from dev.streets import BLOCKS, CITIES, City

MAIN_EVERY: Final = 4
PARKS: Final = 14
# Buildings stand in the middle of the city only, and so far from the streets.
BUILT_BLOCKS: Final = 7
PAVEMENT_M: Final = 22.0
# Six decimals are a hand's breadth.
DIGITS: Final = 6

NAMES: Final = {
    "Jakarta": (
        "Melati", "Kenanga", "Cempaka", "Anggrek", "Mawar", "Teratai", "Flamboyan", "Bougenville",
        "Kamboja", "Dahlia", "Seruni", "Wijaya", "Merdeka", "Pahlawan", "Diponegoro", "Kartini",
        "Sudirman", "Gajah Mada", "Hayam Wuruk", "Majapahit", "Sriwijaya", "Mataram", "Singosari",
        "Kediri", "Tarumanegara",
    ),
    "Kuala Lumpur": (
        "Cenderai", "Merpati", "Helang", "Merbok", "Kenari", "Rajawali", "Tiong", "Bangau", "Camar",
        "Undan", "Pipit", "Serindit", "Ampang", "Tun Razak", "Raja Laut", "Imbi", "Pudu", "Bukit",
        "Sultan", "Damai", "Setia", "Bakti", "Maju", "Jaya", "Kencana",
    ),
}  # fmt: skip


def street_map() -> dict[str, Any]:
    """A FeatureCollection: `kind` is street, main, park, water or building; most have a `name`."""
    features = [feature for city in CITIES for feature in _features(city, Random(city.name))]
    return {"type": "FeatureCollection", "features": features}


def _features(city: City, random: Random) -> Iterator[dict[str, Any]]:
    parks = {
        (random.randint(-BLOCKS, BLOCKS - 1), random.randint(-BLOCKS, BLOCKS - 1))
        for _ in range(PARKS)
    }
    for x, y in sorted(parks):
        yield _area(
            city, "park", _block(city, x, y, 8.0), f"Taman {random.choice(NAMES[city.name])}"
        )
    yield _river(city, random)
    for x in range(-BUILT_BLOCKS, BUILT_BLOCKS):
        for y in range(-BUILT_BLOCKS, BUILT_BLOCKS):
            if (x, y) not in parks:
                yield from _buildings(city, x, y, random)
    names = list(NAMES[city.name])
    random.shuffle(names)
    for number in range(-BLOCKS, BLOCKS + 1):
        kind = "main" if number % MAIN_EVERY == 0 else "street"
        name = names[(number + BLOCKS) % len(names)]
        along, far = number * city.block_m, BLOCKS * city.block_m
        yield _line(city, kind, [(-far, along), (far, along)], f"Jalan {name}")
        yield _line(city, kind, [(along, -far), (along, far)], f"Jalan {name} {_roman(number)}")


def _roman(number: int) -> str:
    return ("I", "II", "III", "IV", "V")[number % 5]


def _river(city: City, random: Random) -> dict[str, Any]:
    """From edge to edge through the middle of the blocks."""
    points, y = [], -1.5
    for x in range(-BLOCKS - 1, BLOCKS + 2):
        points.append((x * city.block_m, y * city.block_m))
        y = min(max(y + random.choice((-1, 0, 0, 1)), -4.5), 3.5)
    return _line(city, "water", points, "Sungai Kilat")


def _buildings(city: City, x: int, y: int, random: Random) -> Iterator[dict[str, Any]]:
    """One in each quarter of a block, some missing."""
    half = city.block_m / 2
    for left in (0.0, half):
        for bottom in (0.0, half):
            if random.random() < 0.35:
                continue
            west = x * city.block_m + left + PAVEMENT_M / 2 + random.uniform(4, 14)
            south = y * city.block_m + bottom + PAVEMENT_M / 2 + random.uniform(4, 14)
            width, depth = random.uniform(30, half - 36), random.uniform(30, half - 36)
            yield _area(city, "building", _ring(west, south, west + width, south + depth))


def _block(city: City, x: int, y: int, margin: float) -> list[tuple[float, float]]:
    size = city.block_m
    return _ring(
        x * size + margin, y * size + margin, (x + 1) * size - margin, (y + 1) * size - margin
    )


def _ring(west: float, south: float, east: float, north: float) -> list[tuple[float, float]]:
    """Counterclockwise and closed (RFC 7946, section 3.1.6)."""
    return [(west, south), (east, south), (east, north), (west, north), (west, south)]


def _line(city: City, kind: str, points: list[tuple[float, float]], name: str) -> dict[str, Any]:
    geometry = {"type": "LineString", "coordinates": _on_globe(city, points)}
    return {"type": "Feature", "properties": {"kind": kind, "name": name}, "geometry": geometry}


def _area(
    city: City, kind: str, ring: list[tuple[float, float]], name: str | None = None
) -> dict[str, Any]:
    properties = {"kind": kind} if name is None else {"kind": kind, "name": name}
    geometry = {"type": "Polygon", "coordinates": [_on_globe(city, ring)]}
    return {"type": "Feature", "properties": properties, "geometry": geometry}


def _on_globe(city: City, points: list[tuple[float, float]]) -> list[list[float]]:
    places = [city.position(x, y, 0.0, 0.0) for x, y in points]
    return [[round(p.longitude, DIGITS), round(p.latitude, DIGITS)] for p in places]


def write(path: Path) -> None:
    """The file that MAP_STREETS_FILE names."""
    path.write_text(json.dumps(street_map(), separators=(",", ":")))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
