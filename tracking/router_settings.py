"""Settings of the router that ETAs may ask."""

from dataclasses import dataclass

from tracking.environment import EnvironmentSettings, variable
from tracking.setting_values import path_part, plain_url


@dataclass(frozen=True, kw_only=True)
class RouterSettings(EnvironmentSettings):
    """Without an address ETAs come from finished trips alone."""

    eta_router_url: str = variable(
        "", plain_url, "an OSRM server that is asked for ETAs of watched trips; empty: none"
    )
    eta_router_profile: str = variable(
        "driving", path_part, "its profile, as in /route/v1/<profile>/"
    )
