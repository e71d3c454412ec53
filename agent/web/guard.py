"""Decides who may call: token, signed URL, Host, Origin and Sec-Fetch-Site.

Who must be kept out (architecture §4): code in the sandbox that has no token, a web page
in a developer's browser (DNS rebinding, cross-site posts, websockets), another container.
CORS is not authentication, so no CORS header is ever sent and no cookie is ever read.

A caller that shows the token in a header proved itself: a page cannot forge that, and
proxies rewrite Host and forward foreign Origins. Everybody else must name us in Host,
come from our own origin, and not be cross-site; all of that before any work.
"""

import hashlib
import hmac
import ipaddress
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from aiohttp import hdrs, web
from multidict import istr

from agent.errors import ForbiddenError, MisdirectedError, UnauthorizedError
from agent.settings import Settings
from agent.web.routes import Route

QUERY_TOKEN = "DAYTONA_SANDBOX_AUTH_KEY"  # noqa: S105 - the parameter's name
PREVIEW_TOKEN_HEADER = istr("X-Daytona-Preview-Token")
SEC_FETCH_SITE = istr("Sec-Fetch-Site")
LOOPBACK_NAMES = ("127.0.0.1", "localhost", "::1")
ADDRESSES_MAX = 64
"""Local addresses whose names are remembered; a machine has a handful."""

Query = dict[str, list[str]]


class Guard:
    """The rules of one agent.

    Args:
        settings: Whose token, signing key, hosts and origins apply.
        clock: Wall time in Unix seconds, for the expiry of signed URLs.
    """

    def __init__(
        self, settings: Settings, clock: Callable[[], float] = time.time
    ) -> None:
        self._token = settings.token.encode()
        self._signing_key = settings.signing_key.encode()
        self._open = settings.trust_network
        self._no_auth = settings.no_auth
        self._keeps_pages_out = settings.no_auth
        self._hosts = frozenset(each.lower() for each in settings.allowed_hosts)
        self._origins = frozenset(each.lower() for each in settings.allowed_origins)
        self._clock = clock
        self._own: dict[tuple[Any, ...], frozenset[str]] = {}

    def check(self, request: web.Request, route: Route | None, query: Query) -> None:
        """Let the request pass, or raise.

        `route` is None when no route matched: then only a caller that may call
        at all is told so.

        Raises:
            MisdirectedError: Host is not ours.
            ForbiddenError: A foreign Origin, or a cross-site request.
            UnauthorizedError: No token, or a wrong one.
        """
        self._check_caller(request, route, query)
        if (
            self._keeps_pages_out
            and route is not None
            and route.open_ended
            and SEC_FETCH_SITE in request.headers
        ):
            # A page would be of the agent's own origin, to which all is allowed then.
            raise ForbiddenError("a browser may not open ports at the agent's address")

    def _check_caller(
        self, request: web.Request, route: Route | None, query: Query
    ) -> None:
        if self._open or self._has_header_token(request):
            return
        if route is not None and route.signed and self._is_signed(request, query):
            return
        self._check_host(request)
        query_token = self._has_query_token(request, query)
        self._check_origin(request, listed=query_token)
        if route is not None and route.public:
            return
        if not self._no_auth and not query_token:
            raise UnauthorizedError("a valid token is required")

    def accepts(self, token: str) -> bool:
        """Tell whether `token` lets its bearer in, for protocols that carry it inside."""
        return self._open or self._no_auth or self._matches(token)

    def is_token(self, given: str) -> bool:
        """Tell whether `given` is the token, which is not for others to see."""
        return self._matches(given)

    def _matches(self, given: str) -> bool:
        # Bytes, because compare_digest refuses text that is not ASCII.
        return bool(self._token) and hmac.compare_digest(
            given.encode("utf-8", "surrogateescape"), self._token
        )

    def _has_header_token(self, request: web.Request) -> bool:
        headers = request.headers
        authorization = headers.get(hdrs.AUTHORIZATION)
        if authorization is not None:
            scheme, _, credentials = authorization.partition(" ")
            if scheme.lower() == "bearer" and self._matches(credentials.strip()):
                return True
        token = headers.get(PREVIEW_TOKEN_HEADER)
        return token is not None and self._matches(token)

    def _has_query_token(self, request: web.Request, query: Query) -> bool:
        # A token in a URL ends up in histories and logs, so it is taken only where
        # a browser can send it in no other way.
        values = query.get(QUERY_TOKEN)
        return values is not None and is_upgrade(request) and self._matches(values[0])

    def _is_signed(self, request: web.Request, query: Query) -> bool:
        """Tell whether the URL bears a valid, unexpired signature (contract 10 §5)."""
        path, expires, signature = (
            query.get(name, [""])[0] for name in ("path", "expires", "signature")
        )
        if not self._signing_key or not signature or not expires.isascii():
            return False
        if not expires.isdigit() or (expires != "0" and int(expires) < self._clock()):
            return False
        method = "GET" if request.method == "HEAD" else request.method
        expected = sign(self._signing_key, method, path, expires)
        return hmac.compare_digest(
            signature.encode("utf-8", "surrogateescape"), expected.encode()
        )

    def _check_host(self, request: web.Request) -> None:
        given = request.headers.get(hdrs.HOST, "").lower()
        if given not in self._own_hosts(request):
            raise MisdirectedError("host is not served here")

    def _check_origin(self, request: web.Request, *, listed: bool) -> None:
        """Refuse foreign origins; `listed` ones may come with a query token."""
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is not None:
            origin = origin.lower()
            if listed and origin in self._origins:
                return
            parts = urlsplit(origin)
            if parts.scheme not in {"http", "https"} or (
                origin != f"{parts.scheme}://{parts.netloc}"
                or parts.netloc not in self._own_hosts(request)
            ):
                raise ForbiddenError("origin is not allowed")
        if request.headers.get(SEC_FETCH_SITE, "").lower() == "cross-site":
            raise ForbiddenError("cross-site requests are not allowed")

    def _own_hosts(self, request: web.Request) -> frozenset[str]:
        """Return the Host values that name us on this connection.

        A literal address is ours when the connection came to it: rebinding attacks
        need a name, probes of an orchestrator use the address.
        """
        sockname = request.transport and request.transport.get_extra_info("sockname")
        if not isinstance(sockname, tuple):
            return self._hosts
        own = self._own.get(sockname)
        if own is None:
            if len(self._own) >= ADDRESSES_MAX:
                self._own.clear()
            own = self._own[sockname] = self._hosts | _names_of(sockname)
        return own


def _names_of(sockname: tuple[Any, ...]) -> frozenset[str]:
    """Return the Host values for the local address of a connection."""
    port = sockname[1]
    names = {*LOOPBACK_NAMES, _plain(sockname[0])}
    own = {f"[{name}]:{port}" if ":" in name else f"{name}:{port}" for name in names}
    if port == 80:  # the scheme's default port, which clients leave out
        own |= {f"[{name}]" if ":" in name else name for name in names}
    return frozenset(own)


def _plain(address: str) -> str:
    """Return an IPv4 address that came through an IPv6 socket in its own form."""
    mapped = getattr(
        ipaddress.ip_address(address.partition("%")[0]), "ipv4_mapped", None
    )
    return str(mapped or address)


def is_upgrade(request: web.Request) -> bool:
    """Tell whether the request asks for a websocket."""
    return request.headers.get(hdrs.UPGRADE, "").lower() == "websocket"


def sign(key: bytes, method: str, path: str, expires: str) -> str:
    """Return the signature of a file URL (contract 10 §5)."""
    payload = f"v1:files:{method}:{path}:{expires}".encode("utf-8", "surrogateescape")
    digest = hmac.new(key, payload, hashlib.sha256).digest()
    return "v1_" + urlsafe_b64encode(digest).decode().rstrip("=")
