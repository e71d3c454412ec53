"""Server-sent events (HTML standard, section 9.2)."""

from aiohttp import web

from agent.errors import InvalidRequestError

PING = b": ping\n\n"
"""A comment, so that a proxy does not take silence for death."""


def last_event_id(request: web.Request, since: int | None) -> int | None:
    """Return the number of the last event that the client has, or None.

    A browser that comes back asks with the same address as before, so the header wins
    over `since`, which the address says.

    Raises:
        InvalidRequestError: It is no number of ours.
    """
    given = request.headers.get("Last-Event-ID", "")
    if not given:
        return since
    if not (given.isascii() and given.isdigit() and len(given) < 20):
        raise InvalidRequestError("Last-Event-ID: not a number of ours")
    return int(given)


async def begin_events(request: web.Request) -> web.StreamResponse:
    """Send the headers of a stream of events."""
    response = web.StreamResponse(
        headers={
            "Content-Type": "text/event-stream; charset=utf-8",
            "Cache-Control": "no-store",
            # nginx would hold the events back until it has a few kilobytes.
            "X-Accel-Buffering": "no",
        }
    )
    await response.prepare(request)
    return response


def encode_event(number: int, kind: str, data: bytes) -> bytes:
    """Return one event; `data` is JSON, so it has no line ends."""
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (number, kind.encode(), data)
