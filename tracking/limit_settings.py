"""How much one user, address or share link may take; read by tracking/environment.py."""

from dataclasses import dataclass

from tracking.environment import EnvironmentSettings, variable
from tracking.setting_values import whole


@dataclass(frozen=True, kw_only=True)
class LimitSettings(EnvironmentSettings):
    """Of one process: each counts for itself."""

    max_viewers_per_link: int = variable(
        1_000, whole(0, 1_000_000), "WebSockets of one share link at the most; 0 for no limit"
    )
    max_viewers_per_user: int = variable(
        50, whole(0, 1_000_000), "WebSockets of one user at the most; 0 for no limit"
    )
    max_viewers_per_address: int = variable(
        5_000,
        whole(0, 1_000_000),
        "WebSockets from one address (or IPv6 /64); 0 for no limit",
    )
    joins_per_second: int = variable(
        200, whole(0, 1_000_000), "new WebSockets a second from one address; 0 for no limit"
    )
    requests_per_second: int = variable(
        200, whole(0, 1_000_000), "REST requests a second from one address; 0 for no limit"
    )
    max_viewers: int = variable(
        0, whole(0, 1_000_000), "WebSockets at the most; 0 for what the descriptor limit allows"
    )
