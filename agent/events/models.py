"""What is told of the timeline."""

from typing import Literal

from agent.wire import Model


class Event(Model, frozen=True, kw_only=True):
    """One thing that happened; each type has further fields of its own.

    Attributes:
        id: Rises by one for each event, also over restarts of the api and the agent.
        time: When it happened (RFC 3339).
        unix_ms: The same, in milliseconds since 1970.
        type: The thing and what it did, with dots between.
    """

    id: int
    time: str
    unix_ms: int
    type: str


class EventPage(Model, frozen=True, kw_only=True):
    """Events that have happened.

    Attributes:
        events: In the order of their numbers.
        next: What to ask `since` for to go on.
        more: Whether there was more at the time.
        lost: Events in between that cannot be told any more, whatever their types.
        oldest: The oldest number that can still be read.
        newest: The newest number.
    """

    events: list[Event]
    next: int
    more: bool
    lost: int
    oldest: int
    newest: int


class Hello(Model, frozen=True, kw_only=True):
    """The first word of every stream.

    Attributes:
        since: What follows comes after this number.
        oldest: The oldest number that can still be read.
        newest: The newest number.
    """

    type: Literal["hello"] = "hello"
    since: int
    oldest: int
    newest: int


class Overflow(Model, frozen=True, kw_only=True):
    """Events cannot be told any more: they are gone from the journal.

    Attributes:
        since: The last number before them.
        oldest: The first number after them.
        lost: How many there were, whatever their types.
    """

    type: Literal["overflow"] = "overflow"
    since: int
    oldest: int
    lost: int
