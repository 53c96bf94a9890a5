"""Encryption at rest: fields sealed with AES-256-GCM, bound to the row they stand in.

A sealed value opens only with the same key and the same context, so swapped rows are refused.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
_NONCE_BYTES = 12
_VERSION = b"\x01"


class KeyUnusable(Exception):
    """The key is missing, unreadable or not the one a value was sealed with; what it protects stays closed."""


class Cipher:
    """Seals and opens fields with one key."""

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise KeyUnusable(f"an encryption key has {KEY_BYTES} bytes, this one has {len(key)}")
        self._aead = AESGCM(key)

    def seal(self, clear: bytes, *, context: str) -> bytes:
        """Encrypt; `context` names table and row and must be given again to open."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return _VERSION + nonce + self._aead.encrypt(nonce, clear, context.encode())

    def open(self, sealed: bytes, *, context: str) -> bytes:
        """Decrypt; raises KeyUnusable for another key, another row, or a changed value."""
        if sealed[:1] != _VERSION:
            raise KeyUnusable("a stored value has an unknown format")
        nonce, body = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
        try:
            return self._aead.decrypt(nonce, body, context.encode())
        except (InvalidTag, ValueError) as error:  # a value cut short has no whole nonce, which is a ValueError
            raise KeyUnusable("a stored value was sealed with another key or belongs to another row") from error


def load_or_create_key(path: Path) -> bytes:
    """Read the key file, or make one that only its owner can read; two processes starting at once get the same key."""
    if path.exists():
        return _read_key(path)
    # Written aside and linked into place: whoever looks sees no key or all of it, and one of two makers wins.
    aside = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_bytes(KEY_BYTES).hex().encode())
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):
                os.link(aside, path)
        finally:
            aside.unlink()
    except OSError as error:
        raise KeyUnusable(f"the key file {path} cannot be made: {error.strerror}") from error
    return _read_key(path)


def _read_key(path: Path) -> bytes:
    try:
        return bytes.fromhex(path.read_text().strip())
    except (OSError, ValueError) as error:
        raise KeyUnusable(f"the key file {path} cannot be read as a hexadecimal key") from error
