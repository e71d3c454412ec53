"""The wire shapes of sessions (contract 31 §2)."""

from typing import Annotated

from msgspec import Meta, field

from agent import wire
from agent.process.models import Limits
from agent.wire import UNSET, UnsetType


class CreateSessionRequest(wire.Model, frozen=True, kw_only=True):
    """The body of a session's creation."""

    session_id: Annotated[str, Meta(min_length=1)]
    limits: Limits | None = None
    """What the whole session may use; our addition."""


class Command(wire.Model, frozen=True, kw_only=True):
    """A command of a session."""

    id: str
    command: str
    """The text as it was sent."""
    exit_code: int | UnsetType = UNSET
    """Absent while the command is queued or running."""
    verdict: "Verdict | UnsetType" = UNSET
    """Only when it is asked for."""


class Resources(wire.Model, frozen=True, kw_only=True):
    """What a command used, with the children that were waited for."""

    user_seconds: float
    system_seconds: float
    peak_memory_bytes: int | None
    """Null where it cannot be known: a shell that goes on has no peak of its own."""


class Verdict(wire.Model, frozen=True, kw_only=True):
    """All there is to know about a command's course and end."""

    state: str
    """`queued`, `running`, `finished` (its exit code is known) or `closed` (and nothing
    can write to its log any more)."""
    started_at: str
    ended_at: str | None
    duration_seconds: float | None
    signal: int | None
    """The signal that ended it; by the shell's convention an exit code of 128 + n."""
    reason: str | None
    """`exited`, `signalled`, `timeout`, `deleted`, `oom-killed`, `not-started`,
    `start-failed` or `lost`."""
    bytes_written: int
    bytes_dropped: int
    resources: Resources | None


class Session(wire.Model, frozen=True, kw_only=True):
    """A session with its commands in the order of their start."""

    session_id: str
    commands: list[Command]


class SessionExecuteRequest(wire.Model, frozen=True, kw_only=True):
    """The body of a command."""

    command: str
    run_async: bool | None = None
    is_async: bool | None = field(default=None, name="async")
    """The old name of `runAsync`."""
    suppress_input_echo: bool | None = None
    """Keep what is sent to its input out of its log."""
    timeout: Annotated[float, Meta(ge=0)] | None = None
    """Seconds after which what the command runs is killed; 0 or absent: never."""
    limits: Limits | None = None
    """What each process of the command may use, and the output kept of it; our addition.
    The shell gets the limits for the time of the command, as soft ones."""


class SessionExecuteResponse(wire.Model, frozen=True, kw_only=True):
    """The answer to a command; all but its id are null when it was not waited for."""

    cmd_id: str
    output: str | None
    stdout: str | None
    stderr: str | None
    exit_code: int | None


class SessionCommandLogs(wire.Model, frozen=True, kw_only=True):
    """A command's log so far."""

    output: str
    """Both outputs in the order in which they came."""
    stdout: str
    stderr: str


class SessionSendInputRequest(wire.Model, frozen=True, kw_only=True):
    """Input for a running command."""

    data: str
    """A newline is added when it does not end with one."""


class SignalRequest(wire.Model, frozen=True, kw_only=True):
    """A signal for what a command runs."""

    signal: str | int
    """A name, with or without `SIG`, or a number."""
