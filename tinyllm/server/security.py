"""Who may talk to a server on this machine: its owner's browser, on our own page, and nobody else.

    another site's script    can send requests here, and read answers if a header allows it: no CORS header is ever sent, a
                             foreign Origin is refused, and a POST must carry a header that only our page knows
    DNS rebinding            evil.example suddenly means 127.0.0.1: the Host header must be one of ours, exactly
    another user             has no token; the token is in the address printed at the start, then in a cookie
    a stranger's text        that slips into the page as markup finds no script allowed (Content-Security-Policy)

Each of these has been an attack on a well-known tool: CVE-2024-28224 (rebinding, Ollama), CVE-2023-47115, CVE-2024-26152 and
CVE-2025-47783 (stored script, Label Studio). Everything here is plain ASGI, so that it stands before any framework.
"""

import json
import secrets
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = (
    ("content-security-policy", POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("x-frame-options", "DENY"),
    ("cache-control", "no-store"),
)
PAGE_HEADER = "x-tinyllm-token"  # a POST carries the page's token here
# Sent with the cookie. Not a redirect: after one that began on another site (a terminal in a web page), browsers would
# hold a SameSite=Strict cookie back; a step that our own page takes brings it along. The token leaves the address, too.
ENTRANCE = b'<!doctype html><title>tinyllm</title><link rel="icon" href="data:,"><meta http-equiv="refresh" content="0;url=/">'
MAX_BODY = 1_000_000  # bytes of a request
SHORTEST_TOKEN = 16

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Refused(Exception):
    """A request that is not served. `status` is HTTP's number, `text` says why and what to do."""

    def __init__(self, status: int, text: str):
        super().__init__(text)
        self.status, self.text = status, text


@dataclass(frozen=True)
class Access:
    """What a request must show. Made anew at each launch.

    hosts  the Host headers that mean us, "127.0.0.1:8765";  token  in the address and the cookie;  page_token  in the header
    """

    hosts: frozenset[str]
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    page_token: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    cookie: str = "tinyllm"  # cookies know no ports: two servers on one machine need two names

    def __post_init__(self) -> None:
        plain = self.token.isascii() and all(c.isalnum() or c in "-_" for c in self.token)
        if len(self.token) < SHORTEST_TOKEN or not plain:
            expected = f"at least {SHORTEST_TOKEN} letters, digits, - or _, that cannot be guessed"
            raise ValueError(f"token has {len(self.token)} characters; expected {expected}")


class Guard:
    """The application behind it sees only requests that `access` allows; every answer gets the protective headers."""

    def __init__(self, app: App, access: Access):
        self.app, self.access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, by ASGI's rules. Refusals are answered here."""
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            return

        async def send_protected(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                names = {name for name, _ in HEADERS}
                kept = [(key, value) for key, value in message.get("headers", []) if key.decode("latin-1").lower() not in names]
                message = {**message, "headers": [*kept, *((key.encode(), value.encode()) for key, value in HEADERS)]}
            await send(message)

        try:
            if (letter := self._check(scope)) is not None:
                await _answer(send_protected, 200, ENTRANCE, [("content-type", "text/html"), ("set-cookie", letter)])
            else:
                await self.app(scope, receive, send_protected)
        except Refused as refused:
            body = json.dumps({"error": refused.text}).encode()
            await _answer(send_protected, refused.status, body, [("content-type", "application/json")])

    def _check(self, scope: Scope) -> str | None:
        """Refused unless the request is allowed. The cookie to set if it is the first one, with the token in its address."""
        host = _only(scope, "host")
        if host not in self.access.hosts:
            raise Refused(403, "this server does not answer to that host name; open the address printed at the start")
        if any(origin != f"http://{host}" for origin in _headers(scope, "origin")):
            raise Refused(403, "requests from other sites are not answered")
        if scope["method"] == "GET" and scope["path"] == "/" and scope.get("query_string"):
            if not _equal(scope["query_string"].decode("latin-1"), f"token={self.access.token}"):
                raise Refused(403, "the token in the address is not this launch's; open the address printed at the start")
            return f"{self.access.cookie}={self.access.token}; Path=/; HttpOnly; SameSite=Strict"
        if not _equal(_cookie(scope, self.access.cookie), self.access.token):
            raise Refused(403, "no token: open the address that was printed when this server started")
        if scope["method"] not in ("GET", "HEAD"):
            self._check_change(scope)
        return None

    def _check_change(self, scope: Scope) -> None:
        """What a request that may change something needs besides."""
        if not _equal(_only(scope, PAGE_HEADER), self.access.page_token):
            raise Refused(403, "this page is from an earlier launch of the server; open the address printed at the start")
        kind = (_only(scope, "content-type") or "").replace(" ", "").lower()
        if kind not in ("application/json", "application/json;charset=utf-8"):
            raise Refused(415, "expected the content type application/json")
        length = _only(scope, "content-length")
        if length is not None and (not length.isdecimal() or len(length) > 9 or int(length) > MAX_BODY):
            raise Refused(413, f"a request has at most {MAX_BODY} bytes")


async def _answer(send: Send, status: int, body: bytes, headers: Iterable[tuple[str, str]]) -> None:
    encoded = [(key.encode(), value.encode()) for key, value in headers]
    encoded.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})


def _headers(scope: Scope, name: str) -> list[str]:
    """All values of a header, as often as it was sent."""
    return [value.decode("latin-1") for key, value in scope["headers"] if key.decode("latin-1").lower() == name]


def _only(scope: Scope, name: str) -> str | None:
    """The header's value if it was sent exactly once: two readers might pick different ones of two."""
    values = _headers(scope, name)
    return values[0] if len(values) == 1 else None


def _cookie(scope: Scope, name: str) -> str | None:
    """The cookie's value if it was sent exactly once.

    Read one by one, at each ";" (RFC 6265, section 5.4): the browser sends along what other programs of this host have set,
    and one of theirs that a strict reader does not understand, such as prefs={"dark":true}, must not hide ours.
    """
    pairs = (cookie.partition("=") for header in _headers(scope, "cookie") for cookie in header.split(";"))
    values = [value.strip(" \t") for key, _, value in pairs if key.strip(" \t") == name]
    return values[0] if len(values) == 1 else None


def _equal(given: str | None, secret: str) -> bool:
    """Whether both are the same, in a time that tells nothing about where they differ."""
    return given is not None and secrets.compare_digest(given.encode(), secret.encode())
