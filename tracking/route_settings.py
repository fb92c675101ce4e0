"""Settings of what is said about a route."""

from dataclasses import dataclass
from datetime import timedelta

from tracking.environment import variable
from tracking.router_settings import RouterSettings
from tracking.setting_values import whole


@dataclass(frozen=True, kw_only=True)
class RouteSettings(RouterSettings):
    """Which waypoints cannot be true, and how long they are kept."""

    max_speed_kmh: int = variable(
        150, whole(10, 1000), "what no runner exceeds: waypoints that need more are flagged"
    )
    retention_days: int = variable(
        0, whole(0, 36_500), "days after its trip's end when a route goes; 0: kept for ever"
    )

    @property
    def keep(self) -> timedelta | None:
        """For how long routes are kept; None: for ever."""
        return timedelta(days=self.retention_days) if self.retention_days else None
