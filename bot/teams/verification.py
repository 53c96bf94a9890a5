"""Whether an activity really comes from Teams, for us, from our tenant, on behalf of somebody.

Invariant: an activity passes only when every check passed; whatever goes wrong on the way is a refusal (401 or 403).
The token is checked by botframework-connector's own code, with its blocking key cache replaced by ours.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from botframework.connector.auth.authentication_constants import AuthenticationConstants
from botframework.connector.auth.channel_validation import ChannelValidation
from botframework.connector.auth.claims_identity import ClaimsIdentity
from botframework.connector.auth.credential_provider import SimpleCredentialProvider
from botframework.connector.auth.jwt_token_extractor import JwtTokenExtractor
from botframework.connector.auth.verify_options import VerifyOptions

from bot.settings import TeamsSettings
from bot.teams.hosts import is_loopback, service_allowed
from bot.teams.keys import SigningKeys

CHANNEL = "msteams"
MAX_HEADER_CHARACTERS = 16_384
LEEWAY_SECONDS = 300
"""Clock difference the Bot Connector authentication page allows for."""

PROVEN_SECONDS = 300.0
"""How long a token that was proven is taken without proving it again; Teams sends one token with many activities."""
PROVEN_TOKENS = 1_000

logger = structlog.get_logger(__name__)


class Refused(Exception):
    """The activity is not taken; `status` is 401 (who are you) or 403 (not you, or not from there)."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Peer:
    """The other end of the connection, as the server sees it."""

    address: str
    forwarded: bool
    """A proxy says that it passes on somebody else's request."""


class _ChannelToken(JwtTokenExtractor):  # type: ignore[misc]
    """The library's token check, reading keys from `SigningKeys` instead of its process-wide cache."""

    def __init__(self, keys: SigningKeys) -> None:
        # The inherited constructor would put a blocking key fetcher into a cache shared by the whole process.
        self.validation_parameters = VerifyOptions(
            issuer=[AuthenticationConstants.TO_BOT_FROM_CHANNEL_TOKEN_ISSUER],
            audience=None,
            clock_tolerance=LEEWAY_SECONDS,
            ignore_expiration=False,
        )
        self.validation_parameters.algorithms = ["RS256"]
        self.open_id_metadata = keys


class Verifier:
    """Checks the envelope of every incoming activity."""

    def __init__(self, settings: TeamsSettings, keys: SigningKeys, *, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._clock = clock
        self._proven: dict[bytes, tuple[float, ClaimsIdentity]] = {}
        """Claims of proven tokens and until when they are taken (seconds since 1970), by the token's SHA-256."""
        self._token = _ChannelToken(keys)
        self._credentials = SimpleCredentialProvider(settings.app_id, "")

    async def verify(self, auth_header: str, activity: Mapping[str, Any], peer: Peer) -> ClaimsIdentity:
        """Return the sender's claims; raises Refused."""
        anonymous = self._settings.emulator and not auth_header
        if anonymous:
            if peer.forwarded or not is_loopback(peer.address):
                raise Refused(401, "without an app id, activities are taken from this machine only")
            identity = ClaimsIdentity({}, True, AuthenticationConstants.ANONYMOUS_AUTH_TYPE)
        else:
            identity = await self._authenticate(auth_header)
            if activity.get("channelId") != CHANNEL:
                raise Refused(403, "the activity is not from Microsoft Teams")
            service_url = activity.get("serviceUrl")
            if not service_url or identity.get_claim_value(ChannelValidation.SERVICE_URL_CLAIM) != service_url:
                raise Refused(403, "the token is not for the activity's service URL")
        if not service_allowed(self._settings, str(activity.get("serviceUrl") or "")):
            raise Refused(403, "the service URL is not on the allow-list")
        self._check_tenant(activity, anonymous=anonymous)
        if activity.get("type") in ("message", "invoke") and not text_at(activity, "from", "aadObjectId"):
            raise Refused(403, "the activity names no person")
        return identity

    async def _authenticate(self, auth_header: str) -> ClaimsIdentity:
        if not auth_header:
            raise Refused(401, "there is no token")
        if len(auth_header) > MAX_HEADER_CHARACTERS:
            raise Refused(401, "the token is too long")
        digest = hashlib.sha256(auth_header.encode()).digest()
        proven = self._proven.get(digest)
        if proven is not None and self._clock() < proven[0]:
            return proven[1]
        identity = await self._prove(auth_header)
        if len(self._proven) >= PROVEN_TOKENS:
            self._proven.clear()
        until = min(self._clock() + PROVEN_SECONDS, identity.get_claim_value("exp") + LEEWAY_SECONDS)
        self._proven[digest] = until, identity
        return identity

    async def _prove(self, auth_header: str) -> ClaimsIdentity:
        try:
            identity = await self._token.get_identity_from_auth_header(auth_header, CHANNEL)
            await ChannelValidation.validate_identity(identity, self._credentials)
        except Exception as error:  # the library raises whatever its parser met; every one of them means "not proven"
            logger.info("teams_token_refused", error=type(error).__name__)
            raise Refused(401, "the token is not valid") from error
        if not isinstance(identity.get_claim_value("exp"), int):
            raise Refused(401, "the token never expires")
        return identity

    def _check_tenant(self, activity: Mapping[str, Any], *, anonymous: bool) -> None:
        named = {
            tenant
            for tenant in (
                text_at(activity, "channelData", "tenant", "id"),
                text_at(activity, "conversation", "tenantId"),
            )
            if tenant
        }
        if len(named) > 1:
            raise Refused(403, "the activity names two tenants")
        allowed = self._settings.tenant_id
        if anonymous:
            # The configured tenant signs what it sends; without a signature nobody speaks for it.
            if allowed and allowed in named:
                raise Refused(401, "there is no token")
            return
        if not allowed or named != {allowed}:
            raise Refused(403, "the tenant is not on the allow-list")


def text_at(value: Any, *path: str) -> str:
    """The string at a path of a JSON value; empty when there is none."""
    for name in path:
        if not isinstance(value, Mapping):
            return ""
        value = value.get(name)
    return value if isinstance(value, str) else ""
