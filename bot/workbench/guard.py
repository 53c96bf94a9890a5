"""The workbench acts as other people, so it answers only to a browser on this machine, and only to its own page.

Four things must hold before a request passes: the peer is on loopback, the name it asked for is a loopback name (a
foreign name that resolves here is DNS rebinding), no proxy stands between, and a request that changes something is
JSON sent by our own page (a form or a script elsewhere is cross-site request forgery).
"""

from __future__ import annotations

from ipaddress import ip_address

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'self'",
        "img-src 'self' data:",
        # The card renderers set inline styles; no script is ever inline.
        "style-src 'self' 'unsafe-inline'",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)

SECURITY_HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}

_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
_PROXY_HEADERS = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip")
_READING = frozenset({"GET", "HEAD", "OPTIONS"})


class LoopbackOnly:
    """ASGI wrapper that refuses, with 403 and one plain sentence, whatever does not come from this machine's browser.

    What passes gets `SECURITY_HEADERS` on its answer; so does the refusal.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers[name] = value
            await send(message)

        reason = refusal(scope)
        if reason is None:
            await self.app(scope, receive, send_guarded)
        else:
            await PlainTextResponse(reason, status_code=403)(scope, receive, send_guarded)


def refusal(scope: Scope) -> str | None:
    """Why a request is refused, as a sentence for the person who meets it; None when it may pass."""
    headers = Headers(scope=scope)
    # Looked at first: a server that trusts proxies rewrites the peer address from these very headers.
    if any(name in headers for name in _PROXY_HEADERS):
        return "The workbench is not served through a proxy: open it on the machine that runs Countersign."
    if not _is_loopback(scope.get("client")):
        return "The workbench is served only to a browser on the machine that runs Countersign."
    host = headers.get("host", "")
    if _host_name(host) not in _LOOPBACK_NAMES:
        return "The workbench answers to localhost only: open it as http://localhost, with the port it was started on."
    if scope["method"] in _READING:
        return None
    origin = headers.get("origin")
    if origin is not None and origin != f"{scope['scheme']}://{host}":
        return "The workbench takes requests from its own page only."
    if headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        return "The workbench takes requests from its own page only."
    if headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
        return "The workbench takes requests as application/json only."
    return None


def _is_loopback(client: tuple[str, int] | None) -> bool:
    if client is None:
        return False
    try:
        address = ip_address(client[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def _host_name(host: str) -> str:
    """The name in a Host header without its port; an IPv6 address keeps its brackets."""
    if host.startswith("["):
        return host[: host.find("]") + 1].lower()
    return host.split(":")[0].lower()
