"""The wire shapes of waiting.

A condition is an object with one of the six keys; its result has the same key, with what
was found when it came to hold.
"""

from typing import Annotated, Literal

from msgspec import Meta

from agent import wire
from agent.wire import UNSET, UnsetType

CONDITIONS_MAX = 64
"""Of one request; each may cost a follower, a watcher or a connection at a time."""

TIMEOUT_MAX_S = 3600.0
"""A wait is a connection that stays open; who needs longer asks again."""

PATTERN_MAX_CHARACTERS = 4096
"""Of a text or an expression."""

Name = Annotated[str, Meta(min_length=1)]
StreamName = Literal["stdout", "stderr"]
FileState = Literal["exists", "absent", "changed"]


class CommandCondition(wire.Model, frozen=True, kw_only=True):
    """A command has ended. `entrypoint` and `entrypoint_command` are the image's own."""

    session_id: Name
    command_id: Name


class LogCondition(wire.Model, frozen=True, kw_only=True):
    """A command's output has a text, before or after the wait began."""

    session_id: Name
    command_id: Name
    pattern: Annotated[str, Meta(min_length=1, max_length=PATTERN_MAX_CHARACTERS)]
    regex: bool = False
    """The pattern is an expression (Python's `re`), tried on each line; on one that is
    not finished whenever more of it has come."""
    stream: StreamName | None = None
    """Only this output; else each of both for itself."""
    offset: Annotated[int, Meta(ge=0)] = 0
    """Where in the log to begin; the `nextOffset` of an earlier result, say."""


class PortCondition(wire.Model, frozen=True, kw_only=True):
    """Something accepts connections on a port of the sandbox."""

    port: Annotated[int, Meta(ge=1, le=65535)]
    host: str | None = None
    """A loopback address; none: both 127.0.0.1 and ::1 are tried."""


class HttpCondition(wire.Model, frozen=True, kw_only=True):
    """A GET has a status; redirects are not followed."""

    url: str
    """`http://`, of a loopback address."""
    status: Annotated[int, Meta(ge=200, le=599)] = 200


class FileCondition(wire.Model, frozen=True, kw_only=True):
    """An entry is there, is not there, or is not as it was when the wait began."""

    path: Name
    state: FileState = "exists"


class QuietCondition(wire.Model, frozen=True, kw_only=True):
    """A command has written nothing for so long, counted from the wait's begin."""

    session_id: Name
    command_id: Name
    milliseconds: Annotated[int, Meta(ge=1, le=3_600_000)]


class Condition(wire.Model, frozen=True, kw_only=True):
    """What is waited for: exactly one of these."""

    command: CommandCondition | None = None
    log: LogCondition | None = None
    port: PortCondition | None = None
    http: HttpCondition | None = None
    file: FileCondition | None = None
    quiet: QuietCondition | None = None


class WaitRequest(wire.Model, frozen=True, kw_only=True):
    """The body of a wait."""

    conditions: Annotated[
        list[Condition], Meta(min_length=1, max_length=CONDITIONS_MAX)
    ]
    mode: Literal["any", "all"] = "any"
    timeout: Annotated[float, Meta(gt=0, le=TIMEOUT_MAX_S)]
    """Seconds, after which the answer comes in any case."""


class CommandFacts(wire.Model, frozen=True, kw_only=True):
    """How a command ended."""

    exit_code: int
    signal: int | None
    reason: str
    """As in a command's verdict."""


class LogFacts(wire.Model, frozen=True, kw_only=True):
    """Where the text is."""

    stream: StreamName
    match: str
    line: str
    """The line that it is in, as far as it has come; at most 4096 bytes of it."""
    offset: int
    """Of the match in the log."""
    next_offset: int
    """After it."""


class PortFacts(wire.Model, frozen=True, kw_only=True):
    """Where something listens."""

    host: str


class HttpFacts(wire.Model, frozen=True, kw_only=True):
    """What was answered."""

    status: int


class FileFacts(wire.Model, frozen=True, kw_only=True):
    """What is there now."""

    exists: bool
    size_bytes: int | None
    modified_at: str | None


class QuietFacts(wire.Model, frozen=True, kw_only=True):
    """How far the log has come."""

    offset: int
    ended: bool
    """Nothing can write to it any more."""


class ConditionResult(wire.Model, frozen=True, kw_only=True):
    """What became of one condition, with the facts under its own key."""

    index: int
    """Which one of the request."""
    state: Literal["held", "pending", "failed"]
    """`failed`: it cannot come to hold any more; `reason` says why."""
    after_seconds: float | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    command: CommandFacts | UnsetType = UNSET
    log: LogFacts | UnsetType = UNSET
    port: PortFacts | UnsetType = UNSET
    http: HttpFacts | UnsetType = UNSET
    file: FileFacts | UnsetType = UNSET
    quiet: QuietFacts | UnsetType = UNSET


Facts = CommandFacts | LogFacts | PortFacts | HttpFacts | FileFacts | QuietFacts


class WaitResponse(wire.Model, frozen=True, kw_only=True):
    """What a wait has come to."""

    satisfied: bool
    """Any, or all, of the conditions hold, as was asked for."""
    timed_out: bool
    duration_seconds: float
    held: list[int]
    """The conditions that held, by index, in the order in which they came to."""
    conditions: list[ConditionResult]
    """All of them, in the order of the request."""
