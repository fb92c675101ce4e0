"""The JWKS on a timer: the last good set stays while the issuer is away. IOLoop thread."""

import asyncio
import logging
from typing import Final

from tornado.httpclient import AsyncHTTPClient

from tracking.domain.access import KeySet

log = logging.getLogger("tracking.keys")

# A new key is published long before it signs; a withdrawn one should not live much longer.
REFRESH_S: Final = 300.0
FIRST_RETRY_S: Final = 2.0


async def refresh_keys(url: str, keys: KeySet) -> None:
    """Fetch, and fetch again, until cancelled."""
    wait = FIRST_RETRY_S
    while True:
        try:
            response = await AsyncHTTPClient().fetch(url, request_timeout=10.0)
            count = keys.replace(response.body)
            log.debug("JWKS has %d keys", count)
            wait = REFRESH_S
        except Exception as error:  # whatever the issuer does, tokens keep being checked
            log.warning("JWKS not fetched, the last good keys stay: %r", error)
            wait = min(wait * 2, REFRESH_S)
        await asyncio.sleep(wait)
