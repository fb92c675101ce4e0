"""What a page may do in the browser: the headers of its HTML. Pure."""

import re
from collections.abc import Sequence
from typing import Final

# host[:port] of a Host header; anything else has no place in a policy.
HOST: Final = re.compile(r"[A-Za-z0-9.-]{1,253}(:\d{1,5})?|\[[0-9a-fA-F:.]{2,45}\](:\d{1,5})?")


def content_security_policy(
    host: str, map_origins: Sequence[str], frame_ancestors: Sequence[str]
) -> str:
    """Nothing but our own; no inline script or style, no blob, no eval.

    `host` is named for its WebSockets, which not every browser counts as 'self'.
    """
    sockets = [f"ws://{host}", f"wss://{host}"] if HOST.fullmatch(host) else []
    rules = {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", *map_origins],
        "connect-src": ["'self'", *sockets, *map_origins],
        "worker-src": ["'self'"],
        "base-uri": ["'none'"],
        "form-action": ["'none'"],
        "frame-ancestors": list(frame_ancestors) or ["'none'"],
        "require-trusted-types-for": ["'script'"],
        "trusted-types": ["default"],
    }
    return "; ".join(f"{name} {' '.join(values)}" for name, values in rules.items())


def page_headers(policy: str) -> dict[str, str]:
    """Of every page, beside those of `UnlistedHandler`."""
    return {
        "Content-Security-Policy": policy,
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "geolocation=(self), camera=(), microphone=()",
    }
