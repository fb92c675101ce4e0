"""What all tables have in common."""

from datetime import datetime

from geoalchemy2 import Geometry
from sqlalchemy import (
    BigInteger,
    DateTime,
    Text,
)
from sqlalchemy.dialects.postgresql import REAL
from sqlalchemy.orm import DeclarativeBase


class Base(DeclarativeBase):
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's own protocol
        datetime: DateTime(timezone=True),
        str: Text,
        int: BigInteger,
        float: REAL,
    }


def geometry(kind: str) -> Geometry:
    # Only the simplified line is ever searched by place, and that by track: no spatial index.
    return Geometry(kind, srid=4326, spatial_index=False)
