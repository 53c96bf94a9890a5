"""Which addresses a message of ours may link to."""

from __future__ import annotations

from urllib.parse import urlsplit

from bot.teams.hosts import is_loopback


def linkable(url: str) -> bool:
    """Whether a structured link's URL is https, or http on loopback; anything else is shown as text."""
    if not url.isascii() or any(character <= " " or character in "\\\"'<>`" for character in url):
        return False
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        _ = parts.port
    except ValueError:
        return False
    if parts.username is not None or not host:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))
