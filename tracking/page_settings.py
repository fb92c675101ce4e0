"""Settings of the web pages."""

from dataclasses import dataclass

from tracking.environment import EnvironmentSettings, variable
from tracking.setting_values import base_url, readable_file, some_origins, switch, text


@dataclass(frozen=True, kw_only=True)
class PageSettings(EnvironmentSettings):
    """What the pages show, and who may embed them."""

    web: bool = variable(True, switch, "on: serve the pages that `make web` built; off: none")
    login_url: str = variable(
        "", base_url, "where /track sends who has no token, with ?return=; comes back with #token="
    )
    embed_origins: tuple[str, ...] = variable(
        (), some_origins, "web apps that may embed /track and give it a token"
    )
    map_style_url: str = variable("", base_url, "MapLibre style of the map; empty: the built-in")
    map_style_url_dark: str = variable("", base_url, "the same for dark; empty: as MAP_STYLE_URL")
    map_csp_origins: tuple[str, ...] = variable(
        (), some_origins, "what such a style loads from; tiles, glyphs, sprites"
    )
    map_attribution: str = variable("", text, "what its provider wants to be shown")
    map_streets_file: str = variable(
        "", readable_file, "GeoJSON of streets for the built-in style (the demo's)"
    )
