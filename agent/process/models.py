"""The wire shapes of execute."""

from typing import Annotated

from msgspec import Meta

from agent import wire

Seconds = Annotated[float, Meta(ge=0)]
"""A time limit; a fraction is rounded up, 0 means none (contract 30 §2.3)."""


AtLeastOne = Annotated[int, Meta(ge=1)]


class Limits(wire.Model, frozen=True, kw_only=True):
    """What a command may use; our addition.

    The agent's own settings hold as well, whichever is tighter.
    """

    cpu_seconds: AtLeastOne | None = None
    """Processor time of each of its processes."""
    memory_bytes: AtLeastOne | None = None
    """Memory of its whole tree, where the kernel lets the agent make a cgroup; else what
    each process may write to that is its own."""
    open_files: AtLeastOne | None = None
    """Files that each of its processes may have open."""
    processes: AtLeastOne | None = None
    """Processes of its tree, where there are cgroups; else of the user."""
    output_bytes: AtLeastOne | None = None
    """Output that is kept; the rest is counted and dropped."""


class ExecuteRequest(wire.Model, frozen=True, kw_only=True):
    """The body of `/process/execute`."""

    command: str
    cwd: str | None = None
    envs: dict[str, str] | None = None
    timeout: Seconds | None = None
    limits: Limits | None = None


class ExecuteResponse(wire.Model, frozen=True, kw_only=True):
    """The answer of `/process/execute`."""

    exit_code: int
    result: str
    """Standard output and standard error in the order in which they were written."""
