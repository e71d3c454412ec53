"""The route of the timeline: a stream of events, or a page of them."""

from collections.abc import AsyncIterator
from typing import Annotated

from aiohttp import web
from msgspec import Meta

from agent import wire
from agent.events.choice import Choice
from agent.events.models import EventPage, Hello, Overflow
from agent.events.pages import page
from agent.events.timeline import Entry, Listener, Missed, Timeline
from agent.registry import KEEPER
from agent.web.events import begin_events, encode_event, last_event_id
from agent.web.routes import Encoded, Routes
from agent.web.server import told_of_the_end

routes = Routes("events")

TIMELINE = web.AppKey("timeline", Timeline)

PING_S = 30.0
"""Between two words to a client that would hear nothing; proxies cut silence at 60 s."""

PAGE_EVENTS = 1000
PAGE_EVENTS_MAX = 10_000

Number = Annotated[int, Meta(ge=0)]
Limit = Annotated[int, Meta(ge=1, le=PAGE_EVENTS_MAX)]


async def context(app: web.Application) -> AsyncIterator[None]:
    """Open what the route works with."""
    app[TIMELINE] = Timeline(app[KEEPER])
    yield


@routes.get("/events", errors=(400, 429))
async def follow_events(
    request: web.Request,
    since: Number | None = None,
    types: str = "",
    follow: bool = True,
    limit: Limit = PAGE_EVENTS,
) -> Encoded[EventPage] | web.StreamResponse:
    """Tell what happens in the sandbox, in one order.

    Server-sent events: commands, sessions, terminals, contexts, git operations, language
    servers, edits, checkpoints, watches and the agent itself. The first word is `hello`;
    then comes what happened after `since`, or after the header `Last-Event-ID`, which
    wins; without either, what happens from now on. `overflow` says how many events the
    journal has no more. `types` are globs with commas between, as `command.*,git.*`. With
    `follow=false` the answer is a page of what there is, `limit` events at most, from
    `since` on or from the oldest.
    """
    choice = Choice(types)
    since = last_event_id(request, since)
    timeline = request.app[TIMELINE]
    if not follow or request.method == "HEAD":
        return Encoded(await page(timeline, choice, since, limit))
    async with timeline.listen(choice, since) as listener:
        with told_of_the_end(request, listener.leave):
            return await _stream(request, listener)


async def _stream(request: web.Request, listener: Listener) -> web.StreamResponse:
    response = await begin_events(request)
    hello = Hello(
        since=listener.number,
        oldest=listener.there.oldest,
        newest=listener.there.newest,
    )
    await response.write(encode_event(hello.since, hello.type, wire.encode(hello)))
    while (events := await listener.take(PING_S)) is not None:
        if events:
            await response.write(b"".join(map(_as_event, events)))
        else:
            # With the number, although no event bears it: the client goes on after it.
            await response.write(b": ping\nid: %d\n\n" % listener.number)
    await response.write_eof()
    return response


def _as_event(event: Entry | Missed) -> bytes:
    if isinstance(event, Entry):
        return encode_event(event.number, event.kind, event.text)
    told = Overflow(since=event.since, oldest=event.oldest, lost=event.lost)
    return encode_event(event.oldest - 1, told.type, wire.encode(told))
