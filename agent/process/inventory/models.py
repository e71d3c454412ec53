"""The wire shapes of the process list."""

from agent import wire
from agent.wire import UNSET, UnsetType


class ProcessInfo(wire.Model, frozen=True, kw_only=True):
    """One process of a tree."""

    pid: int
    ppid: int
    name: str
    argv: list[str]
    """At most 4096 characters of it."""
    state: str
    """`running`, `sleeping`, `disk-sleep`, `stopped`, `tracing-stop`, `idle` or `zombie`."""
    cpu_seconds: float
    rss_bytes: int
    threads: int


class RunningCommand(wire.Model, frozen=True, kw_only=True):
    """The command that a session's shell runs just now."""

    id: str
    command: str
    started_at: str
    age_seconds: float


class RunningProcess(wire.Model, frozen=True, kw_only=True):
    """Something that the agent runs, with all that came of it."""

    kind: str
    """`command` (execute), `code` (code-run), `session`, `pty`, `context`, `entrypoint`;
    with `all` also `api`, `keeper` and the kinds of the agent's helpers."""
    id: str
    """The client's name for it, where there is one; else the agent's own."""
    pid: int
    """Of its leader; of what is left of it when the leader has ended."""
    command: str
    """At most 4096 characters of it."""
    state: str
    """`running`, or `background`: its leader has ended, children of it live on."""
    started_at: str
    age_seconds: float
    cpu_seconds: float
    memory_bytes: int
    memory_kind: str
    """`pss` (shared pages are divided among those who share them), `rss` where that
    cannot be read, or `mixed`."""
    process_count: int
    processes: list[ProcessInfo]
    """Parents before children; at most 1000 of them."""
    running_command: RunningCommand | UnsetType = UNSET
    """Of a session whose shell is busy."""
