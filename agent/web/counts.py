"""Counts requests, at the price of a few additions each.

Plain numbers only: what shows them (`agent/metrics`) is imported by the first who asks.
"""

from bisect import bisect_left
from collections.abc import Callable, Mapping

import msgspec
from aiohttp import web

from agent.web.routes import Route

BOUNDS_S = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0),
)
"""Upper bounds of the classes in which durations are counted, in seconds."""

GAUGES = web.AppKey("gauges", dict[str, Callable[[], int]])
"""How many of something there are, by name; each room that is open has put its own in."""

UNMATCHED = ""
"""The route of requests for which there is none."""


class Tally(msgspec.Struct):
    """The requests of one method to one route."""

    statuses: dict[int, int] = msgspec.field(default_factory=dict)
    classes: list[int] = msgspec.field(
        default_factory=lambda: [0] * (len(BOUNDS_S) + 1)
    )
    """How many took at most as long as each bound, none counted twice; then the rest."""
    seconds: float = 0.0
    received: int = 0
    """Bytes of bodies."""
    sent: int = 0


class Counts:
    """All requests that one api has answered, by method and route."""

    def __init__(self) -> None:
        self._tallies: dict[tuple[str, str], Tally] = {}

    @property
    def tallies(self) -> Mapping[tuple[str, str], Tally]:
        """What was counted, by method and the route's template."""
        return self._tallies

    def add(
        self,
        request: web.BaseRequest,
        route: Route | None,
        status: int,
        seconds: float,
        response: web.StreamResponse | None,
    ) -> None:
        """Count one request.

        What streams events or was upgraded lasts as long as its client likes, so its
        duration says nothing and is not counted.
        """
        # Never the path itself: there is no end of those.
        key = (request.method, route.path if route is not None else UNMATCHED)
        tally = self._tallies.get(key)
        if tally is None:
            tally = self._tallies[key] = Tally()
        tally.statuses[status] = tally.statuses.get(status, 0) + 1
        received = request.content.total_bytes
        if route is not None and route.upload:
            # Large ones are read past the HTTP parser.
            received = max(received, request.content_length or 0)
        tally.received += received
        if response is None:
            # The client left, and when it did says nothing of us.
            return
        if response.prepared:
            # What the kernel sends from a file, nobody counts; of a stream without a
            # length, this has the head in it.
            length = response.content_length
            tally.sent += response.body_length if length is None else length
            if _lasts(response):
                return
        elif isinstance(body := getattr(response, "body", None), bytes):
            tally.sent += len(body)
        tally.classes[bisect_left(BOUNDS_S, seconds)] += 1
        tally.seconds += seconds


def _lasts(response: web.StreamResponse) -> bool:
    is_upgraded = response.status == 101
    return is_upgraded or response.content_type == "text/event-stream"
