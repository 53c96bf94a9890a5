"""The keys that Teams signs with, fetched from its OpenID metadata and kept.

Invariant: no request waits for the network while a known key would do, and an unknown key id costs at most one fetch a
minute, however many requests name one. When the metadata cannot be fetched, the keys we hold go on being used.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import orjson
import structlog
from jwt import InvalidKeyError
from jwt.algorithms import RSAAlgorithm

REFRESH_AFTER_SECONDS = 24 * 3600.0
RETRY_AFTER_SECONDS = 60.0
"""Least time between two fetches, after an unknown key id as after a failure."""
FETCH_TIMEOUT_SECONDS = 5.0
MAX_DOCUMENT_BYTES = 1 << 20

logger = structlog.get_logger(__name__)


class KeyUnknown(Exception):
    """No published key has this id, or none could be fetched."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One published key, in the shape `JwtTokenExtractor` asks for."""

    public_key: Any
    endorsements: list[str]
    """Channels this key may sign for; empty when the metadata does not say."""


class SigningKeys:
    """Keeps the published keys; stands in for the connector library's own blocking cache."""

    def __init__(self, metadata_url: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._metadata_url = metadata_url
        self._clock = clock
        self._keys: dict[str, SigningKey] = {}
        self._fetched_at = float("-inf")
        self._tried_at = float("-inf")
        self._lock = asyncio.Lock()
        self._refreshing: asyncio.Task[None] | None = None

    async def get(self, key_id: str | None) -> SigningKey:
        """The key of an id; raises KeyUnknown."""
        if not isinstance(key_id, str):
            raise KeyUnknown("the token names no key")
        key = self._keys.get(key_id)
        if key is None:
            await self._refresh(unless_known=key_id)
            key = self._keys.get(key_id)
            if key is None:
                raise KeyUnknown("no published key has the token's key id")
        elif self._clock() - self._fetched_at > REFRESH_AFTER_SECONDS and self._may_try() and self._refreshing is None:
            self._refreshing = asyncio.create_task(self._refresh())
            self._refreshing.add_done_callback(self._refreshed)
        return key

    async def close(self) -> None:
        """Stop a fetch that is under way."""
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.gather(self._refreshing, return_exceptions=True)

    def _refreshed(self, task: asyncio.Task[None]) -> None:
        self._refreshing = None

    def _may_try(self) -> bool:
        return self._clock() - self._tried_at >= RETRY_AFTER_SECONDS

    async def _refresh(self, *, unless_known: str | None = None) -> None:
        async with self._lock:
            if (unless_known is not None and unless_known in self._keys) or not self._may_try():
                return
            self._tried_at = self._clock()
            try:
                self._keys = await self._fetch()
                self._fetched_at = self._clock()
            except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError) as error:
                logger.warning("teams_keys_unavailable", error=type(error).__name__, kept=len(self._keys))

    async def _fetch(self) -> dict[str, SigningKey]:
        timeout = aiohttp.ClientTimeout(total=FETCH_TIMEOUT_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            metadata = await _document(session, self._metadata_url)
            keys_url = str(metadata["jwks_uri"])
            if urlsplit(self._metadata_url).scheme == "https" and urlsplit(keys_url).scheme != "https":
                raise ValueError("the metadata names keys on an insecure address")
            published = await _document(session, keys_url)
        keys = dict(entry for entry in map(_signing_key, published["keys"]) if entry is not None)
        if not keys:
            raise ValueError("the metadata publishes no usable key")
        return keys


async def _document(session: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    async with session.get(url) as response:
        response.raise_for_status()
        body = bytearray()
        async for chunk in response.content.iter_chunked(1 << 16):
            body += chunk
            if len(body) > MAX_DOCUMENT_BYTES:
                raise ValueError("the document is too large")
    document = orjson.loads(body)
    if not isinstance(document, dict):
        raise ValueError("the document is not an object")
    return document


def _signing_key(jwk: Any) -> tuple[str, SigningKey] | None:
    """A published key by id; None for kinds that no token of ours is signed with."""
    if not isinstance(jwk, dict) or jwk.get("kty") != "RSA" or not isinstance(jwk.get("kid"), str):
        return None
    try:
        public_key = RSAAlgorithm.from_jwk(jwk)
    except (InvalidKeyError, ValueError):
        return None
    endorsements = jwk.get("endorsements")
    return jwk["kid"], SigningKey(public_key, [str(name) for name in endorsements] if endorsements else [])
