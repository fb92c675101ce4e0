"""The formats of an export, by the ending of its address."""

from collections.abc import Mapping
from typing import Final

from tracking.wire.exports.csv_rows import CsvRows
from tracking.wire.exports.feature_collection import FeatureCollection
from tracking.wire.exports.format import Format
from tracking.wire.exports.gpx import Gpx
from tracking.wire.exports.kml import Kml

FORMATS: Final[Mapping[str, type[Format]]] = {
    "geojson": FeatureCollection,
    "gpx": Gpx,
    "kml": Kml,
    "csv": CsvRows,
}
