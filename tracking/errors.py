"""Everything that can go wrong by name. `handlers.rejections` is what a caller gets for it."""


class TrackingError(Exception):
    """Base of all; its text may be shown to the caller."""


class SettingsError(TrackingError):
    """The environment is wrong; the text has one line for each variable."""


class InvalidEvent(TrackingError):
    """A Kafka record that can never be processed; the text is the reason, without its data."""


class InvalidRequest(TrackingError):
    """A malformed id or parameter."""


class InvalidToken(TrackingError):
    """No token, or one that opens nothing."""


class KeysUnavailable(TrackingError):
    """The keys that tokens are checked with are not here: the same token may be good later."""


class UnknownKey(KeysUnavailable):
    """A token was signed with a key that is not in the set that we have."""


class NotFound(TrackingError):
    """Not there, or not the caller's: deliberately the same, so that ids cannot be probed."""


class NotKnownYet(TrackingError):
    """Not there, or not the caller's, as far as we know, which may be too early to say."""


class DatabaseUnavailable(TrackingError):
    """PostgreSQL is away, slow, or read-only: the same request may succeed later."""


class RouteChanged(TrackingError):
    """Waypoints left a route, or were erased, while it was read: the same request may succeed."""


class RouteExpired(TrackingError):
    """The waypoints have gone for their age: only the summary is left."""


class TripActive(TrackingError):
    """The trip is under way, or may still begin: what is asked for is for ended ones."""


class SchemaOutdated(TrackingError):
    """The database is not at the revision this code was written for."""


class TooManyRequests(TrackingError):
    """The caller is too fast; a little later the same is welcome."""


class TooManyConnections(TrackingError):
    """The caller holds as many WebSockets as one may."""


class Overloaded(TrackingError):
    """The server is full; another one, or a little later, may have."""
