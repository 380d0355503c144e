"""Who may talk to the review page: a browser that was given the key, no other page.

A page of another site can send requests to 127.0.0.1, and by DNS rebinding even read the answers
under its own name. So every request has to name this machine as its host and carry a cookie that
only the link printed at the start gives; what changes something also needs the token of the
page in a header, and has to come from the page itself. A page that is shared over a network asks
for the same, and other machines can then reach it.
"""

import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

from labelfix.review.hosts import LOOPBACK, Place

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Callable[[], Awaitable[Any]], Send], Awaitable[None]]

TOKEN_HEADER = "x-labelfix-token"
LARGEST_BODY = 4 << 20
"""Bytes: a batch of some ten thousand decisions."""

_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
_ENTRANCE = (
    b'<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0; url=/">'
    b'<title>labelfix review</title><p><a href="/">To the review</a></p>'
)
"""Leads to the page without the key. No redirect: browsers hold back the new cookie, which is for
this site alone, from one that began at another, as when somebody clicks on the link in a chat."""
_READING = frozenset({"GET", "HEAD"})


class Keys:
    """The secrets of one server.

    Args:
        port: Where it listens; browsers share cookies between ports, so the name has it in.
        place: Where it is served, and the names that it answers to.
    """

    def __init__(self, port: int, place: Place = LOOPBACK) -> None:
        self.place = place
        self.key = secrets.token_urlsafe(32)
        self.token = secrets.token_urlsafe(32)
        self.cookie = f"labelfix-{port}"


class Guard:
    """Refuses what must not reach the app, and gives every answer the headers that it needs.

    Args:
        app: The app behind.
        keys: What a request has to know.
    """

    def __init__(self, app: App, keys: Keys) -> None:
        self._app = app
        self._keys = keys

    async def __call__(
        self, scope: Scope, receive: Callable[[], Awaitable[Any]], send: Send
    ) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            raise RuntimeError(f"{scope['type']} is not served")
        headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}
        brings_key = self._brings_key(scope)
        refusal = self._refuse_host(headers) or (
            self._refuse_unauthorized(scope, headers, brings_key=brings_key)
            or (None if scope["method"] in _READING else self._refuse_change(headers))
        )
        cookie = None
        if brings_key and refusal is None:
            cookie = f"{self._keys.cookie}={self._keys.key}; Path=/; HttpOnly; SameSite=Strict"
        guarded = _with_headers(send, cookie)
        if refusal is not None:
            await _answer(guarded, *refusal)
        elif brings_key and self._keys.place.is_shared:
            await _answer(guarded, 200, _ENTRANCE, "text/html")
        else:
            await self._app(scope, receive, guarded)

    def _refuse_host(self, headers: dict[str, str]) -> tuple[int, bytes] | None:
        place = self._keys.place
        if place.answers_to(headers.get("host", "")):
            return None
        if not place.is_shared:
            return 421, b"this server answers to 127.0.0.1 and localhost alone"
        return 421, (
            b"this server does not answer to the name in the address: open the link that "
            b"`labelfix review` printed, or start it with --host and that name"
        )

    def _brings_key(self, scope: Scope) -> bool:
        if scope["path"] != "/" or scope["method"] not in _READING:
            return False
        given = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("key", [""])[0]
        return _same(given, self._keys.key)

    def _refuse_unauthorized(
        self, scope: Scope, headers: dict[str, str], *, brings_key: bool
    ) -> tuple[int, bytes] | None:
        if brings_key:
            return None
        if headers.get("sec-fetch-site", "none") not in {"none", "same-origin"}:
            return 403, b"another site must not ask for this"
        if not _same(_cookie(headers, self._keys.cookie), self._keys.key):
            if self._keys.place.is_shared:
                return 403, (
                    b"This review opens by its link alone. Ask the person who started it for the "
                    b"whole link that `labelfix review` printed, with ?key= and what follows, and "
                    b"open that; a link of an earlier start no longer counts."
                )
            return 403, b"open the address that `labelfix review` printed when it was started"
        return None

    def _refuse_change(self, headers: dict[str, str]) -> tuple[int, bytes] | None:
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if origin is not None and urlsplit(origin).netloc != headers.get("host"):
            return 403, b"another site must not change anything"
        if site not in {None, "same-origin"}:
            return 403, b"another site must not change anything"
        if not _same(headers.get(TOKEN_HEADER, ""), self._keys.token):
            return 403, b"the token of the page is missing"
        if headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            return 415, b"send JSON"
        length = headers.get("content-length", "")
        if not (length.isascii() and length.isdigit()):
            return 411, b"say how long the body is"
        return (413, b"the body is too long") if int(length[:12]) > LARGEST_BODY else None


def _cookie(headers: dict[str, str], name: str) -> str:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(name)
    except CookieError:
        return ""
    return "" if found is None else found.value


def _same(given: str, secret: str) -> bool:
    return secrets.compare_digest(given.encode("utf-8", "replace"), secret.encode())


def _with_headers(send: Send, cookie: str | None) -> Send:
    async def sent(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            own = list(message.get("headers", []))
            there = {name for name, _ in own}
            extra = {**_HEADERS, "cache-control": "no-store"}
            own += [(k.encode(), v.encode()) for k, v in extra.items() if k.encode() not in there]
            if cookie is not None:
                own.append((b"set-cookie", cookie.encode()))
            message = {**message, "headers": own}
        await send(message)

    return sent


async def _answer(send: Send, status: int, body: bytes, media_type: str = "text/plain") -> None:
    headers = [(b"content-type", f"{media_type}; charset=utf-8".encode())]
    if status >= 400:  # a body may be on its way that nobody reads
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
