"""Fetches the issuer's keys: on a timer, or sooner for a token's unknown key. IOLoop thread."""

import asyncio
import logging
from contextlib import suppress
from typing import Final

from tornado.httpclient import HTTPRequest
from tornado.simple_httpclient import SimpleAsyncHTTPClient

from tracking.keys import MIN_FETCH_INTERVAL_S, KeySet
from tracking.metrics import Metrics

log = logging.getLogger("tracking.keys")

# A new key is published long before it signs; a withdrawn one should not live much longer.
REFRESH_S: Final = 300.0
FIRST_RETRY_S: Final = 1.0
# Without any key every request is answered 503: look often.
LAST_RETRY_S: Final = 10.0
TIMEOUT_S: Final = 5.0
# A key has some 450 bytes, one with its certificate chain a few thousand.
MAX_JWKS_BYTES: Final = 256 << 10


class KeyFetcher:
    """Keeps a KeySet as the issuer shows it; the last good keys stay while the issuer is away."""

    def __init__(self, url: str, ca_file: str, keys: KeySet, metrics: Metrics) -> None:
        self._keys = keys
        self._metrics = metrics
        # No redirect: the address that the operator gave is the one that is trusted.
        self._request = HTTPRequest(
            url,
            ca_certs=ca_file or None,
            follow_redirects=False,
            decompress_response=False,
            connect_timeout=TIMEOUT_S,
            request_timeout=TIMEOUT_S,
        )

    async def run(self) -> None:
        """Fetch, and fetch again, until cancelled."""
        retry_s = FIRST_RETRY_S
        while True:
            if await self.fetch():
                retry_s = FIRST_RETRY_S
                await self._pause(REFRESH_S)
            else:
                await asyncio.sleep(retry_s)
                retry_s = min(retry_s * 2, LAST_RETRY_S)

    async def _pause(self, seconds: float) -> None:
        """A key that is wanted ends the pause, but nobody makes us ask again at once."""
        await asyncio.sleep(MIN_FETCH_INTERVAL_S)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._keys.wanted.wait(), seconds - MIN_FETCH_INTERVAL_S)

    async def fetch(self) -> bool:
        """Once; whether the keys are new."""
        self._keys.wanted.clear()
        client = SimpleAsyncHTTPClient(force_instance=True, max_body_size=MAX_JWKS_BYTES)
        try:
            response = await client.fetch(self._request)
        except Exception as error:  # whatever the issuer does, tokens go on being checked
            return self._failed("failed", error)
        finally:
            client.close()
        try:
            count = self._keys.replace(response.body)
        except ValueError as error:
            return self._failed("unusable", error)
        self._metrics.jwks_fetches.labels("ok").inc()
        log.debug("JWKS has %d usable keys", count)
        return True

    def _failed(self, outcome: str, error: Exception) -> bool:
        self._metrics.jwks_fetches.labels(outcome).inc()
        self._keys.failed(str(error) or repr(error))
        log.warning("JWKS not fetched, the last good keys stay: %r", error)
        return False
