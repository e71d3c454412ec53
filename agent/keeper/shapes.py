"""What the api tells the keeper and hears from it, as typed values."""

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

DEFAULT_MAX_BYTES = 256 * 1024 * 1024
"""Output kept of a job that does not say."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a job may use; 0 is no bound.

    Attributes:
        cpu_s: Processor seconds of each of its processes.
        memory_bytes: Of the whole tree where the kernel lets us make a group (cgroup),
            else the writable memory of each process that is its own.
        open_files: Descriptors of each process.
        processes: Of the whole tree where there is a group, else of the user.
    """

    cpu_s: int = 0
    memory_bytes: int = 0
    open_files: int = 0
    processes: int = 0


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """What to start.

    Attributes:
        argv: Program (searched on the job's PATH) and arguments.
        cwd: Its directory; relative ones resolve against the work dir, None is that.
        env: Variables besides those of the base environment.
        unset: Variables that it has not.
        output: Both outputs on one pipe, in true order; on two; or a terminal.
        stdin: The null device, or a pipe for `write` and `close_stdin`.
        control: It has a pipe as descriptor 3 too, for what is no output: stream 3 of its
            log, or `control` of a `run`'s result. Not with a terminal.
        script: Written to a private file, whose path becomes the last argument.
        timeout_s: After this the whole tree is killed.
        live: Its output is for those who follow it at the time, and then forgotten; the
            job waits for them. Not of a terminal's, nor with `kept`.
        max_bytes: Output kept; of `run` head and tail, else the beginning.
        kept: Its log stays on disk, with its end beside it, until it is forgotten.
        id: Its name, that no other job has; empty: the keeper makes one.
        held: The result of a `run` stays until it is forgotten, for `result`.
        label: The caller's own, given back by `info` and `list`.
        kind: What it is, for `list`.
        rows: Of a terminal.
        columns: Of a terminal.
        limits: What it may use, besides time and output.
        told: What the timeline is told of it, besides its kind, program and numbers.
    """

    argv: Sequence[str | bytes]
    cwd: str | None = None
    env: Mapping[str, str] | None = None
    unset: Sequence[str] = ()
    output: Literal["merged", "split", "pty"] = "merged"
    stdin: Literal["null", "pipe"] = "null"
    control: bool = False
    script: bytes | None = None
    timeout_s: float | None = None
    max_bytes: int = DEFAULT_MAX_BYTES
    kept: bool = False
    live: bool = False
    id: str = ""
    held: bool = False
    label: str = ""
    kind: str = "command"
    rows: int = 24
    columns: int = 80
    limits: Limits | None = None
    told: Mapping[str, str] | None = None


class Exit(msgspec.Struct, frozen=True, kw_only=True):
    """How a job ended.

    Attributes:
        exit_code: 0-255; 128 + n when killed by signal n; -1 when never started or lost.
        signal: The signal that killed it, or 0.
        reason: `exited`, `signalled`, `timeout`, `deleted`, `oom-killed`, `cpu-limit`,
            `start-failed`, `not-started` (queued in a session that ended) or `lost`.
        started: Wall clock.
        ended: Wall clock.
        duration_s: By the monotonic clock.
        output_bytes: All that was written.
        dropped_bytes: What of it was not kept.
        user_s: Processor time, of it and the children it waited for.
        system_s: The same, in the kernel.
        max_rss_bytes: The largest of it and its children.
    """

    exit_code: int
    signal: int
    reason: str
    started: float
    ended: float
    duration_s: float
    output_bytes: int
    dropped_bytes: int
    user_s: float
    system_s: float
    max_rss_bytes: int


class SpoolFile(msgspec.Struct, frozen=True, kw_only=True):
    """Output that was too long for memory; `forget` removes it.

    The file is the head, then the tail; the tail was written round and round, so its
    oldest byte is at `tail_start`.
    """

    path: str
    head_bytes: int
    tail_bytes: int
    tail_start: int

    @property
    def ranges(self) -> tuple[tuple[int, int], ...]:
        """The file's (start, end) pieces in the order they were written in."""
        end = self.head_bytes + self.tail_bytes
        pieces = (
            (0, self.head_bytes),
            (self.tail_start, end),
            (self.head_bytes, self.tail_start),
        )
        return tuple((start, stop) for start, stop in pieces if stop > start)


class RunResult(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a `run`.

    Attributes:
        job_id: For `forget`; empty when nothing was started.
        exit: How it ended.
        output: The output, unless there is a spool.
        control: What it wrote to its control pipe, at most 32 MiB of it.
        spool: The output when it is long.
        error: Why nothing was started, or empty.
        errno: The same as a number.
    """

    job_id: str
    exit: Exit
    output: bytes
    control: bytes = b""
    spool: SpoolFile | None
    error: str
    errno: int

    @property
    def exit_code(self) -> int:
        """As `exit.exit_code`."""
        return self.exit.exit_code

    @property
    def signal(self) -> int:
        """As `exit.signal`."""
        return self.exit.signal

    @property
    def reason(self) -> str:
        """As `exit.reason`."""
        return self.exit.reason

    @property
    def total_bytes(self) -> int:
        """All that was written."""
        return self.exit.output_bytes

    @property
    def dropped_bytes(self) -> int:
        """What of it was not kept."""
        return self.exit.dropped_bytes

    @property
    def duration_s(self) -> float:
        """As `exit.duration_s`."""
        return self.exit.duration_s


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A job as the keeper knows it.

    Attributes:
        state: `running`, `draining` (the leader has exited), `finished` (so has its
            output, but for survivors), or `closed` (no byte can come any more).
        directory: Of a kept job: `output.log`, `index` and `exit.json` are there.
        first_offset: The oldest byte that is still there.
        stored_bytes: The offset after the last byte that is there.
        exit: Once `finished`.
    """

    id: str
    pid: int
    kind: str
    label: str
    state: str
    output: str
    kept: bool
    directory: str | None
    started: float
    rows: int
    columns: int
    first_offset: int
    stored_bytes: int
    output_bytes: int
    dropped_bytes: int
    subscribers: int
    exit: Exit | None


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    """Output of one stream: where in the log, which (1 stdout, 2 stderr, 3 control), when."""

    offset: int
    stream: int
    time: float
    data: bytes


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """What is stored of a job's output from some offset on, or the beginning of that.

    Attributes:
        chunks: Runs of bytes of one stream, in their order.
        size: The offset after the last byte that is stored; there is more to be read
            when it is past the end of the last chunk.
        dropped_bytes: What the job wrote but the log did not keep.
        closed: Whether no byte can come any more.
    """

    chunks: tuple[Chunk, ...]
    size: int
    dropped_bytes: int
    closed: bool


class SessionCommand(msgspec.Struct, frozen=True, kw_only=True):
    """A command of a session.

    Attributes:
        text: As it was sent.
        exit_code: None while it is queued or running.
    """

    id: str
    text: str
    exit_code: int | None


class SessionState(msgspec.Struct, frozen=True, kw_only=True):
    """A session as the keeper knows it.

    Attributes:
        name: The client's name for it.
        pid: Of its shell.
        job: The shell's job.
        ended: Whether its shell has ended, or is being ended.
        commands: How many it remembers.
    """

    name: str
    pid: int
    job: str
    started: float
    ended: bool
    commands: int


class End(msgspec.Struct, frozen=True, kw_only=True):
    """Why a subscription is over.

    Attributes:
        reason: `finished`; `slow` (a terminal's client that held it up too long);
            `forgotten`; or `unreadable: ...`.
        offset: Up to where it was sent; a slow client may come back from here.
        dropped_bytes: What the job wrote but the log did not keep.
    """

    reason: str
    offset: int
    dropped_bytes: int
