"""What the service knows: events, tracks, rooms, access. No Tornado, no Kafka."""

__version__ = "1.0.0"
