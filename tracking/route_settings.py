"""Settings of what is said about a route."""

from dataclasses import dataclass

from tracking.environment import EnvironmentSettings, variable
from tracking.setting_values import whole


@dataclass(frozen=True, kw_only=True)
class RouteSettings(EnvironmentSettings):
    """Which waypoints cannot be true."""

    max_speed_kmh: int = variable(
        150, whole(10, 1000), "what no runner exceeds: waypoints that need more are flagged"
    )
