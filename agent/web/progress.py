"""Runs one long piece of work while its client is told how far it is, by events.

    progress   as often as the work tells
    done       it has succeeded; the data is what the ordinary answer would hold
    error      it has failed; the data is the envelope of every other failure

The work ends with the client: whoever asks for events and leaves has no use for it.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable

from aiohttp import hdrs, web

from agent import wire
from agent.web.errors import envelope, failure_of
from agent.web.events import PING, begin_events, encode_event
from agent.web.server import told_of_the_end

log = logging.getLogger("agent.request")

Tell = Callable[[wire.Model], None]
"""Takes how far it is; may be called in any thread."""

EVENTS_MAX = 256
"""Held for a client that takes none; the oldest are dropped, since later ones say more."""
PING_S = 15.0
"""Between two words to a client that would hear nothing."""


def wants_events(request: web.Request) -> bool:
    """Tell whether the client asks for server-sent events."""
    return "text/event-stream" in request.headers.get(hdrs.ACCEPT, "").lower()


async def tell_by_events(
    request: web.Request, work: Callable[[Tell], Awaitable[wire.Model | None]]
) -> web.StreamResponse:
    """Answer with the events of `work`, which is cancelled when the client leaves."""
    told: deque[wire.Model] = deque(maxlen=EVENTS_MAX)
    something = asyncio.Event()
    loop = asyncio.get_running_loop()

    def take(progress: wire.Model) -> None:
        told.append(progress)
        something.set()

    response = await begin_events(request)
    task = asyncio.ensure_future(
        work(lambda progress: _call(loop, lambda: take(progress)))
    )
    task.add_done_callback(lambda _: something.set())

    def leave() -> None:
        task.cancel()

    number = 0
    with told_of_the_end(request, leave):
        try:
            while told or not task.done():
                if not told:
                    await _wait(something, response)
                    continue
                number += 1
                data = wire.encode(told.popleft())
                await response.write(encode_event(number, "progress", data))
            await response.write(_last(number + 1, task, request))
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    await response.write_eof()
    return response


def _call(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    loop.call_soon_threadsafe(callback)


async def _wait(something: asyncio.Event, response: web.StreamResponse) -> None:
    try:
        async with asyncio.timeout(PING_S):
            await something.wait()
        something.clear()
    except TimeoutError:
        await response.write(PING)


def _last(
    number: int, task: "asyncio.Future[wire.Model | None]", request: web.Request
) -> bytes:
    """Return the event that says how it ended.

    Raises:
        ConnectionResetError: The client left, so there is nobody to be told.
    """
    if task.cancelled():
        raise ConnectionResetError("the client left")
    error = task.exception()
    if error is None:
        found = task.result()
        return encode_event(
            number, "done", b"{}" if found is None else wire.encode(found)
        )
    failure = failure_of(error)
    if not failure.expected:
        log.error("work that was told by events failed", exc_info=error)
    told = envelope(failure, path=request.path, method=request.method)
    return encode_event(number, "error", wire.encode(told))
