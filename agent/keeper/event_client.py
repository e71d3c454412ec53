"""The api's side of the keeper's timeline: what happened, and what happens from now on."""

import contextlib
from collections.abc import Callable
from typing import cast

import msgspec

from agent.keeper.client import Keeper, KeeperGoneError
from agent.keeper.frames import Header


class EventRange(msgspec.Struct, frozen=True):
    """Which events there are.

    Attributes:
        newest: The number of the last one; 0 when there was none yet.
        oldest: The number of the first one that can still be read, or of the next one.
    """

    newest: int
    oldest: int


class EventPlace(msgspec.Struct, frozen=True):
    """Where a reader has come to; only the keeper knows what it means."""

    first: int
    offset: int


class EventBlock(msgspec.Struct, frozen=True):
    """What a reader is given.

    Attributes:
        lines: JSON lines in the order of their numbers; among them there may be some that
            the reader has, and some that are no events.
        place: Where to go on.
        more: Whether there was more at the time.
        there: Which events there were at the time.
    """

    lines: bytes
    place: EventPlace
    more: bool
    there: EventRange


class KeptEvents:
    """The keeper's timeline.

    Args:
        keeper: The line to it.
    """

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper

    async def follow(self, listener: Callable[[int, int, bytes], None]) -> EventRange:
        """Have a listener called with all that happens after what is returned."""
        self._keeper.on_events = listener
        answer = await self._keeper.ask("events.follow", {"on": True})
        return _range_of(answer)

    def unfollow(self) -> None:
        """Have nobody called any more, which costs the keeper less."""
        with contextlib.suppress(KeeperGoneError):
            self._keeper.post({"op": "events.follow", "on": False})

    async def read(self, since: int, place: EventPlace | None = None) -> EventBlock:
        """Return events after a number, or the next of them.

        Args:
            since: The last number that the reader has.
            place: What the last block said, when there was one.
        """
        question: Header = {"since": since}
        if place is not None:
            question |= {"first": place.first, "offset": place.offset}
        answer, lines = await self._keeper.request("events.read", b"", question)
        return EventBlock(
            lines=lines,
            place=EventPlace(
                cast("int", answer["first"]), cast("int", answer["offset"])
            ),
            more=cast("bool", answer["more"]),
            there=_range_of(answer),
        )


def _range_of(answer: Header) -> EventRange:
    return EventRange(cast("int", answer["newest"]), cast("int", answer["oldest"]))
