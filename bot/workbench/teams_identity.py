"""The local Teams' token service: signs what it sends as Microsoft does, gives out bearer tokens and checks them."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Any

import jwt
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from jwt.algorithms import RSAAlgorithm

ISSUER = "https://api.botframework.com"
TOKEN_SECONDS = 3600


class LocalIdentity:
    """One signing key, the documents that publish it, and the bearer tokens given to the app."""

    def __init__(
        self,
        *,
        app_id: str,
        app_password: str,
        private_key_pem: bytes,
        base_url: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`private_key_pem` is an RSA key without a password; raises ValueError for another kind."""
        key = load_pem_private_key(private_key_pem, password=None)
        if not isinstance(key, RSAPrivateKey):
            raise ValueError("the local Teams signs with an RSA key")
        self._key = key
        self._app_id = app_id
        self._app_password = app_password
        self._base_url = base_url
        self._clock = clock
        self._given: dict[str, float] = {}
        digest = hashes.Hash(hashes.SHA256())
        digest.update(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
        self.key_id = digest.finalize().hex()[:24]

    def metadata(self) -> dict[str, Any]:
        """The OpenID metadata document, as far as bots read it."""
        return {
            "issuer": ISSUER,
            "jwks_uri": f"{self._base_url}/v1/.well-known/keys",
            "id_token_signing_alg_values_supported": ["RS256"],
            "token_endpoint_auth_methods_supported": ["private_key_jwt"],
        }

    def keys(self) -> dict[str, Any]:
        """The published keys, endorsed for Teams."""
        public = RSAAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        return {"keys": [{**public, "kid": self.key_id, "use": "sig", "endorsements": ["msteams"]}]}

    def bearer(self, service_url: str) -> str:
        """The Authorization header of an activity we send."""
        now = int(self._clock())
        claims = {
            "serviceurl": service_url,
            "nbf": now,
            "exp": now + TOKEN_SECONDS,
            "iss": ISSUER,
            "aud": self._app_id,
        }
        return f"Bearer {jwt.encode(claims, self._key, algorithm='RS256', headers={'kid': self.key_id})}"

    def give(self, client_id: str, client_secret: str) -> dict[str, Any] | None:
        """The answer to a client-credentials request; None for wrong credentials."""
        if client_id != self._app_id or not secrets.compare_digest(client_secret.encode(), self._app_password.encode()):
            return None
        now = self._clock()
        self._given = {token: until for token, until in self._given.items() if until > now}
        token = secrets.token_urlsafe(32)
        self._given[token] = now + TOKEN_SECONDS
        return {"token_type": "Bearer", "expires_in": TOKEN_SECONDS, "access_token": token}

    def accepts(self, header: str) -> bool:
        """Whether an Authorization header holds a token of ours that has not ended."""
        scheme, _, token = header.partition(" ")
        return scheme == "Bearer" and self._given.get(token, 0.0) > self._clock()
