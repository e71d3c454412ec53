"""Answers on the preview port, as the platform's proxy does for its users' browsers.

Each request is for a port, which its host name tells. The visitor is checked, what it
showed is taken off, and the rest goes through the agent's own `/proxy/{port}`. What is
for the toolbox's port goes to the agent itself, with the agent's token, and only by a
token in a header: an origin on which a browser had the toolbox's rights without showing
anything would give them to every page that `/proxy` serves there.
"""

import re
from collections.abc import Mapping, Set
from http import HTTPStatus

from aiohttp import hdrs, web
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from agent.dev.previews.addresses import PREFIX, Place
from agent.dev.previews.cors import allow_origin, is_preflight, preflight_answer
from agent.dev.previews.pages import POLICY, page
from agent.dev.previews.tokens import TOOLBOX_PORT
from agent.dev.previews.visits import (
    SAFE_METHODS,
    SKIP_ACTIVITY,
    Doorkeeper,
    Visit,
    opens_page,
)
from agent.dev.routes import ADDRESSES, DOORKEEPER, SANDBOXES
from agent.errors import AgentError, UnauthorizedError
from agent.settings import Settings
from agent.web.dispatch import Dispatcher
from agent.web.errors import Failure, failure_of
from agent.web.guard import SEC_FETCH_SITE, Guard, Query
from agent.web.routes import Route

VISIT: web.RequestKey[Visit] = web.RequestKey("visit", Visit)
REFUSAL: web.RequestKey[AgentError] = web.RequestKey("refusal", AgentError)
PROXY = "proxy"
"""The first segment of the agent's own route to the ports."""
ABSOLUTE_PATH = re.compile("/(?!/)")
FORWARDED_HOST = "X-Forwarded-Host"
REFERRER_POLICY = "Referrer-Policy"

Turn = tuple[web.Request, str]
"""The request as the agent is to see it, and the path to route it by."""


class PreviewGuard(Guard):
    """Lets the doorkeeper decide on visitors of previews, whose Host is another."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._keeps_pages_out = settings.no_auth or settings.trust_network

    def check(self, request: web.Request, route: Route | None, query: Query) -> None:
        """Let the request pass, or raise."""
        refusal = request.get(REFUSAL)
        if refusal is not None:
            raise refusal
        visit = request.get(VISIT)
        if visit is not None:
            request.app[DOORKEEPER].check(request, visit)
            return
        super().check(request, route, query)


class DevDispatcher(Dispatcher):
    """The agent's dispatcher under the dev command: it knows visitors of previews."""

    def _failed(
        self, request: web.Request, failure: Failure, path: str
    ) -> web.StreamResponse:
        answer = super()._failed(request, failure, path)
        is_preview = VISIT in request or REFUSAL in request
        if not is_preview or not opens_page(request):
            return answer
        # Who sees a preview sees a browser's window, to which an envelope says little.
        headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-store"}
        return web.Response(
            status=failure.status,
            text=page(failure.status, failure.message),
            content_type="text/html",
            headers=headers,
        )


class Previews:
    """Sees every request on the preview port.

    Args:
        main: The agent's own dispatcher, which has the way to the ports.
        settings: The agent's options, with the ports that it really has.
    """

    def __init__(self, main: Dispatcher, settings: Settings) -> None:
        self._main = main
        self._token = settings.token
        self._own_host = f"localhost:{settings.preview_port}"
        self._toolbox_ports = {TOOLBOX_PORT, settings.port}

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        turn = self._turn(request)
        if isinstance(turn, web.Response):
            return turn
        return await self._main.handle(*turn)

    async def expect(self, request: web.Request) -> web.StreamResponse | None:
        """Answer `Expect: 100-continue`."""
        turn = self._turn(request)
        if isinstance(turn, web.Response):
            return turn
        return await self._main.expect(*turn)

    def _turn(self, request: web.Request) -> Turn | web.Response:
        """Return whose turn it is, or the answer that needs nobody's."""
        addresses = request.app[ADDRESSES]
        host = request.headers.get(hdrs.HOST, "")
        try:
            place = addresses.find(host, request.raw_path)
        except AgentError as refusal:
            request[REFUSAL] = refusal
            return request, "/"
        if place.port in self._toolbox_ports:
            return self._to_toolbox(request, place)
        if not place.has_own_host and opens_page(request):
            # Pages need an origin of their own, and their links a root.
            return _go_on(addresses.named_url(place.label) + place.path)
        return self._to_port(request, place)

    def _to_port(self, request: web.Request, place: Place) -> Turn | web.Response:
        sandboxes, doorkeeper = request.app[SANDBOXES], request.app[DOORKEEPER]
        visit = doorkeeper.visit(request, place, is_public=sandboxes.is_public)
        if visit.answers_cors and is_preflight(request):
            return preflight_answer(request.headers)
        if visit.has_key and place.has_own_host and opens_page(request):
            return _without_key(request, doorkeeper, visit)
        skips = request.headers.get(SKIP_ACTIVITY, "").lower() == "true"
        if visit.caller != "stranger" and not skips:
            sandboxes.touch()
        # Of the original, too: an answer made whole is sent for that.
        request[VISIT] = visit
        path, _, query = visit.path.partition("?")
        raw_path = f"/{PROXY}/{place.port}{path}"
        target = URL.build(path=raw_path, query_string=query, encoded=True)
        more = {FORWARDED_HOST: place.host}
        return as_seen(request, target, visit.hidden, more), raw_path

    def _to_toolbox(self, request: web.Request, place: Place) -> Turn | web.Response:
        path, _, query = place.path.partition("?")
        shown, hidden = request.app[DOORKEEPER].token_shown(request, place.port)
        if not shown:
            refusal = UnauthorizedError("a valid token is required, in a header")
            return self._main.tell(failure_of(refusal), path, request.method)
        more: dict[str, str] = {hdrs.HOST: self._own_host}
        if self._token:
            more[hdrs.AUTHORIZATION] = f"Bearer {self._token}"
        # A caller that proved itself may come from anywhere.
        hidden |= {hdrs.ORIGIN.lower(), SEC_FETCH_SITE.lower()}
        target = URL.build(path=path, query_string=query, encoded=True)
        return as_seen(request, target, hidden, more), path


def as_seen(
    request: web.Request, target: URL, hidden: Set[str], more: Mapping[str, str]
) -> web.Request:
    """Return a request as it is passed on.

    Args:
        request: What came.
        target: The path and query to pass on.
        hidden: The names, in lower case, of headers that are left out.
        more: Headers that are put in, or in the place of what came.
    """
    hidden = hidden | {name.lower() for name in more}
    raw = [
        (name, value)
        for name, value in request.raw_headers
        if name.decode("latin-1").lower() not in hidden
    ]
    raw += [(name.encode(), value.encode()) for name, value in more.items()]
    headers = CIMultiDict(
        (name, value)
        for name, value in request.headers.items()
        if name.lower() not in hidden
    )
    headers.update(more)
    seen = request.clone(rel_url=target)
    # Not by `clone`: it cannot have a header with bytes that are not UTF-8.
    message = seen._message._replace(  # noqa: SLF001
        headers=CIMultiDictProxy(headers), raw_headers=tuple(raw)
    )
    seen._message, seen._headers = message, message.headers  # noqa: SLF001
    return seen


async def finish(request: web.Request, response: web.StreamResponse) -> None:
    """Add to a preview's answer, before it is sent, what the proxy has to say."""
    visit = request.get(VISIT)
    if visit is None:
        return
    headers = response.headers
    location = headers.get(hdrs.LOCATION, "")
    if not visit.place.has_own_host and ABSOLUTE_PATH.match(location):
        # Without a host of its own the app does not see what its paths begin with.
        headers[hdrs.LOCATION] = PREFIX + visit.place.label + location
    if visit.is_signed:
        # The host name is a secret; another site is not to learn it from a link.
        headers.setdefault(REFERRER_POLICY, "same-origin")
    origin = request.headers.get(hdrs.ORIGIN)
    is_own = origin is not None and origin.lower() == f"http://{visit.place.host}"
    if origin and not is_own and visit.answers_cors and visit.caller == "known":
        allow_origin(headers, origin)


def _without_key(
    request: web.Request, doorkeeper: Doorkeeper, visit: Visit
) -> web.Response:
    """Send a browser to the same page without the key that it showed, but a cookie.

    The page's scripts could read the key, and its links would tell others of it.
    """
    answer = _go_on(f"http://{visit.place.host}{visit.path}")
    doorkeeper.set_cookie(answer, visit.place.port)
    if request.method in SAFE_METHODS:
        answer.set_status(HTTPStatus.SEE_OTHER)
    return answer


def _go_on(url: str) -> web.Response:
    headers = {
        hdrs.LOCATION: url,
        hdrs.CACHE_CONTROL: "no-store",
        REFERRER_POLICY: "no-referrer",
    }
    return web.Response(status=HTTPStatus.TEMPORARY_REDIRECT, headers=headers)
