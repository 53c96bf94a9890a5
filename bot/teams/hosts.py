"""Which Bot Connector addresses our token may be sent to, and which activities may claim to come from."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

from bot.settings import TeamsSettings


def service_allowed(settings: TeamsSettings, url: str) -> bool:
    """Whether a `serviceUrl` is https on an allow-listed host, or loopback where the platform is a local one.

    Hosts are compared whole: user info, other ports, trailing dots and non-ASCII names are refused.
    """
    if not url.isascii() or any(character <= " " or character in "\\#?@" for character in url):
        return False
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return False
    if (settings.local or settings.emulator) and parts.scheme in ("http", "https") and is_loopback(host):
        return True
    return (
        parts.scheme == "https" and port in (None, 443) and any(_matches(host, rule) for rule in settings.service_hosts)
    )


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _matches(host: str, rule: str) -> bool:
    if rule.startswith("*."):
        return host.endswith(rule[1:].lower()) and len(host) > len(rule) - 1
    return host == rule.lower()
