"""Who visits a preview: what a request shows, and whether that lets it in.

A caller is *known* when it shows something that no page of another origin can make a
browser send: a token in a header or in the query, or a signed token in the host name.
One that has only the cookie, or comes to a preview that is public, is *ambient*: any page
in the developer's browser could have caused the request, so it must come from the
preview's own origin, or be the opening of a page (contract 50 §4, decision 23).
"""

from typing import Literal

import msgspec
from aiohttp import hdrs, web
from multidict import istr

from agent.dev.previews.addresses import Addresses, Place
from agent.dev.previews.tokens import COOKIE_LIFETIME_S, Tokens
from agent.errors import ForbiddenError, UnauthorizedError
from agent.settings import Settings
from agent.web.guard import PREVIEW_TOKEN_HEADER, QUERY_TOKEN, SEC_FETCH_SITE
from agent.web.query import parse_query, unquote

GUARDED_PORTS = (22222, 33333)
"""Never public: the web terminal and the recordings (contract 50 §4)."""
COOKIE = "daytona-sandbox-auth-"
"""Begins the name of the platform's cookie, which the agent's proxy keeps from apps."""
SKIP_ACTIVITY = istr("X-Daytona-Skip-Last-Activity-Update")
DISABLE_CORS = istr("X-Daytona-Disable-CORS")
FETCH_MODE = istr("Sec-Fetch-Mode")
FETCH_DESTINATION = istr("Sec-Fetch-Dest")
OURS = frozenset(
    {
        PREVIEW_TOKEN_HEADER.lower(),
        SKIP_ACTIVITY.lower(),
        DISABLE_CORS.lower(),
        "x-daytona-authorization",
    }
)
"""What is said to the proxy and no app hears."""

SAFE_METHODS = frozenset({hdrs.METH_GET, hdrs.METH_HEAD})

Caller = Literal["known", "ambient", "stranger"]


class Visit(msgspec.Struct, frozen=True, kw_only=True):
    """One request for a preview."""

    place: Place
    caller: Caller
    path: str
    """The path and query that the app is to see."""
    hidden: frozenset[str]
    """The headers, in lower case, that are for us and not for the app."""
    has_key: bool
    """Whether its query had a key that holds."""
    is_signed: bool
    """Whether the host name has a signed token that holds."""
    answers_cors: bool
    """Whether the proxy, and not the app, says which origins may read."""


class Doorkeeper:
    """Lets visitors in.

    Args:
        settings: The agent's options, with the ports that it really has.
        addresses: Where its previews are.
        tokens: What opens them.
    """

    def __init__(
        self, settings: Settings, addresses: Addresses, tokens: Tokens
    ) -> None:
        self._is_open = settings.no_auth or settings.trust_network
        self._own = {settings.dev_port, settings.preview_port}
        self._name = addresses.name
        self._tokens = tokens
        self._cookie_name = COOKIE + addresses.name

    def visit(self, request: web.Request, place: Place, *, is_public: bool) -> Visit:
        """Return what a request for `place` shows; whether it may is for `check`."""
        path, key_holds = self._without_key(place)
        is_shown, hidden = self.token_shown(request, place.port)
        is_signed = self._tokens.is_signed_for(place.port, place.name)
        is_ours = place.name == self._name
        caller: Caller = "stranger"
        if is_signed or key_holds or (is_ours and is_shown):
            caller = "known"
        elif self._has_cookie(request, place) or self._is_public(place, is_public):
            caller = "ambient"
        return Visit(
            place=place,
            caller=caller,
            path=path,
            hidden=hidden,
            has_key=key_holds,
            is_signed=is_signed,
            answers_cors=request.headers.get(DISABLE_CORS, "").lower() != "true",
        )

    def token_shown(
        self, request: web.Request, port: int
    ) -> tuple[bool, frozenset[str]]:
        """Return whether a header has a token for a port, and which headers are ours."""
        scheme, _, bearer = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        if scheme.lower() == "bearer" and self._tokens.opens(port, bearer.strip()):
            # Any other is for the app, which may have users of its own.
            return True, OURS | {hdrs.AUTHORIZATION.lower()}
        shown = request.headers.get(PREVIEW_TOKEN_HEADER, "")
        return self._tokens.opens(port, shown), OURS

    def check(self, request: web.Request, visit: Visit) -> None:
        """Let a visitor in, or raise.

        Raises:
            ForbiddenError: Another origin's page caused it; or the port is not for show.
            UnauthorizedError: It shows nothing that opens the preview.
        """
        if visit.place.port in self._own:
            raise ForbiddenError(
                f"port {visit.place.port} is the dev command's own, not the sandbox's"
            )
        if visit.caller == "stranger":
            raise UnauthorizedError(
                "a token of this preview is required; ask the SDK for a signed"
                " preview URL, or show the token that comes with the preview link"
            )
        if visit.caller == "ambient" and not _is_from_itself(request, visit):
            raise ForbiddenError("cross-origin requests must show a preview token")

    def set_cookie(self, response: web.StreamResponse, port: int) -> None:
        """Give a browser the cookie that opens a port on the host that it asked."""
        response.set_cookie(
            self._cookie_name,
            self._tokens.cookie(port),
            max_age=COOKIE_LIFETIME_S,
            httponly=True,
            samesite="Lax",
        )

    def _is_public(self, place: Place, is_public: bool) -> bool:
        is_ours = place.name == self._name and place.port not in GUARDED_PORTS
        return is_ours and (is_public or self._is_open)

    def _has_cookie(self, request: web.Request, place: Place) -> bool:
        # On the address that all previews have in common one could use another's.
        if not place.has_own_host or place.name != self._name:
            return False
        value = request.cookies.get(self._cookie_name, "")
        return self._tokens.is_cookie_of(place.port, value)

    def _without_key(self, place: Place) -> tuple[str, bool]:
        """Return the path without a key that holds in its query, and if it had one."""
        path, mark, query = place.path.partition("?")
        keys = parse_query(query).get(QUERY_TOKEN, [])
        # Not the agent's token: an app's scripts may see what its addresses contain.
        if place.name != self._name or not any(
            self._tokens.is_of_port(place.port, key) for key in keys
        ):
            return place.path, False
        pairs = [each for each in query.split("&") if not _is_key(each)]
        return path + mark * bool(pairs) + "&".join(pairs), True


def opens_page(request: web.Request) -> bool:
    """Tell whether a browser asks for a page to show."""
    return request.headers.get(FETCH_MODE, "").lower() == "navigate"


def _is_key(pair: str) -> bool:
    return unquote(pair.partition("=")[0].replace("+", " ")) == QUERY_TOKEN


def _is_from_itself(request: web.Request, visit: Visit) -> bool:
    """Tell whether a request comes from the preview's own pages, or opens one."""
    headers = request.headers
    origin = headers.get(hdrs.ORIGIN)
    if origin is not None and origin.lower() != f"http://{visit.place.host}":
        return False
    if headers.get(SEC_FETCH_SITE, "none").lower() in {"none", "same-origin"}:
        return True
    # A link was followed. In a frame the page would be its embedder's to click in.
    mode, destination = headers.get(FETCH_MODE, ""), headers.get(FETCH_DESTINATION, "")
    return (mode.lower(), destination.lower()) == ("navigate", "document")
