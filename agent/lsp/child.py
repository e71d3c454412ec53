"""One server's process: pipes, the end of what it writes to stderr, and its whole tree.

The api starts it itself, in a session of its own and with `TOOLBOX_OWNER`, by which the
keeper ends it when the api dies. Its exit is told by a pidfd, and it is reaped last, so
that its number stays that of its session for as long as something of it is looked for.
"""

import asyncio
import contextlib
import os
import re
import secrets
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import IO

from agent.files.threads import Threads
from agent.keeper import tree

STDERR_TAIL_BYTES = 64 * 1024
"""Of what a server says about itself, the last line of which says why it ended."""
TRACE_LINES = 40
"""At the end of it, which may follow the line that says why."""
_FAILURE = re.compile(r"(\w*error|fatal|panic)\b", re.IGNORECASE)
INPUT_MAX_BYTES = 64 * 1024 * 1024
"""Waiting to be read by a server; one with more of it has stopped reading."""
MARK = "LANGUAGE_SERVER_MARK"
"""A variable by which what a server started is found after both have parted."""
ASK_S = 1.0
"""Between TERM and KILL for whatever outlived its protocol's own farewell."""
KILL_S = 5.0
"""For which killed processes are waited for."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """What to run.

    Attributes:
        words: The command line, its program first.
        cwd: Where it runs.
        environment: Its whole environment.
    """

    words: Sequence[str]
    cwd: str
    environment: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Hooks:
    """Who is told what.

    Attributes:
        received: Bytes from standard output.
        exited: The process has ended; what it wrote before may still come.
    """

    received: Callable[[bytes], None]
    exited: Callable[[], None]


class Child:
    """A process with pipes; made by `start`.

    Attributes:
        pid: Its process id, which is its group's and its session's too.
        exited: Set when it has ended.
    """

    def __init__(
        self,
        process: "subprocess.Popen[bytes]",
        mark: bytes,
        hooks: Hooks,
        threads: Threads,
    ) -> None:
        self.pid = process.pid
        self._mark = mark
        self.exited = asyncio.Event()
        self._process = process
        self._hooks = hooks
        self._threads = threads
        self._stderr = bytearray()
        self._room = asyncio.Event()
        self._room.set()
        self._stdin: asyncio.WriteTransport | None = None
        self._outputs: list[asyncio.ReadTransport] = []
        self._ending: asyncio.Task[None] | None = None
        self._started = tree.look_up(process.pid)
        self._pidfd = -1
        self._said_all = asyncio.Event()
        self.ending = ""
        """How it ended, in words, once it has."""

    @classmethod
    async def start(
        cls,
        command: Command,
        hooks: Hooks,
        threads: Threads,
        attach: Callable[["Child"], None],
    ) -> "Child":
        """Start a process; `attach` gets it before anything of it is heard.

        Raises:
            OSError: It cannot be started.
        """
        number = secrets.token_hex(8)
        mark = f"{MARK}={number}".encode()
        environment = {**command.environment, MARK: number}
        command = replace(command, environment=environment)
        spawning = asyncio.ensure_future(threads.run(_spawn, command))
        try:
            process = await asyncio.shield(spawning)
        except asyncio.CancelledError:
            # Nobody would know of it: it is ended as soon as it is there.
            await asyncio.wait([spawning])
            if not spawning.cancelled() and spawning.exception() is None:
                await threads.run(_abandon, spawning.result(), mark)
            raise
        child = cls(process, mark, hooks, threads)
        attach(child)
        await child._connect()
        return child

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        stdin, stdout, stderr = (
            _pipe(self._process.stdin),
            _pipe(self._process.stdout),
            _pipe(self._process.stderr),
        )
        self._stdin, _ = await loop.connect_write_pipe(
            lambda: _Input(self._room), stdin
        )
        for pipe, output in (
            (stdout, _Output(self._hooks.received, self._said_all.set)),
            (stderr, _Output(self._heard, lambda: None)),
        ):
            transport, _ = await loop.connect_read_pipe(partial(_same, output), pipe)
            self._outputs.append(transport)
        self._pidfd = os.pidfd_open(self.pid)
        loop.add_reader(self._pidfd, self._on_exit)

    def write(self, content: bytes) -> None:
        """Send bytes; `room` waits for the process to take them.

        Raises:
            BrokenPipeError: It is gone, or has stopped reading.
        """
        stdin = self._stdin
        if stdin is None or stdin.is_closing() or self.exited.is_set():
            raise BrokenPipeError("the language server takes no input any more")
        if stdin.get_write_buffer_size() > INPUT_MAX_BYTES:
            raise BrokenPipeError("the language server has stopped reading")
        stdin.write(content)

    async def room(self) -> None:
        """Wait until the process has taken most of what it was sent."""
        await self._room.wait()

    def close_input(self) -> None:
        """Give it the end of its input."""
        if self._stdin is not None:
            self._stdin.close()

    @property
    def last_words(self) -> str:
        """The last line on stderr that is not empty; before a trace, what it is of."""
        text = self._stderr.decode("utf-8", "replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        last = lines[-1] if lines else ""
        said = (line for line in reversed(lines[-TRACE_LINES:]) if _FAILURE.match(line))
        return next(said, last)[:500]

    async def said_all(self, limit_s: float) -> None:
        """Wait for the end of its output, which its children may hold open."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._said_all.wait()

    async def wait(self, limit_s: float) -> bool:
        """Wait for its exit; False when it did not come in time."""
        try:
            async with asyncio.timeout(limit_s):
                await self.exited.wait()
        except TimeoutError:
            return False
        return True

    async def end(self) -> None:
        """End whatever is left of it and reap it; cancelling does not stop that."""
        if self._ending is None:
            self._ending = asyncio.ensure_future(self._end())
        await asyncio.shield(self._ending)

    async def _end(self) -> None:
        if self._stdin is not None and not self._stdin.is_closing():
            self._stdin.abort()
        await self._threads.run(self._end_tree)
        if self._pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
        for transport in self._outputs:
            transport.close()
        self.exited.set()

    def _end_tree(self) -> None:
        end_session(self.pid, self._started, self._mark)
        self._process.wait()

    def _heard(self, content: bytes) -> None:
        self._stderr += content
        del self._stderr[:-STDERR_TAIL_BYTES]

    def _on_exit(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        # Looked at without reaping: its number must stay its session's.
        how = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOWAIT | os.WNOHANG)
        if how is not None:
            kind = "exit code" if how.si_code == os.CLD_EXITED else "signal"
            self.ending = f"{kind} {how.si_status}"
        self.exited.set()
        self._hooks.exited()


class _Output(asyncio.Protocol):
    def __init__(
        self, receive: Callable[[bytes], None], lost: Callable[[], None]
    ) -> None:
        self._receive = receive
        self._lost = lost

    def data_received(self, data: bytes) -> None:
        self._receive(data)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._lost()


def _same(output: _Output) -> _Output:
    return output


class _Input(asyncio.BaseProtocol):
    def __init__(self, room: asyncio.Event) -> None:
        self._room = room

    def pause_writing(self) -> None:
        self._room.clear()

    def resume_writing(self) -> None:
        self._room.set()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        # Nobody waits for room that never comes.
        self._room.set()


def _spawn(command: Command) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        list(command.words),
        cwd=command.cwd,
        env=dict(command.environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        bufsize=0,
    )


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None  # noqa: S101 - asked for above
    return pipe


def _abandon(process: "subprocess.Popen[bytes]", mark: bytes) -> None:
    end_session(process.pid, tree.look_up(process.pid), mark)
    process.communicate()


def end_session(leader: int, started: tree.Process | None, mark: bytes) -> None:
    """End what belongs to a process: ask, wait, kill; blocks.

    That is its session, what descends from it, and what has left both and still has its
    mark. It has not been reaped, so its number is still that of its session.
    """
    members: list[tree.Process] = []
    family = _Family(leader, started, mark)
    for number, limit_s in ((signal.SIGTERM, ASK_S), (signal.SIGKILL, KILL_S)):
        until = time.monotonic() + limit_s
        asked: set[int] = set()
        while members := family.look():
            _ask([each for each in members if each.pid not in asked], number)
            asked |= {each.pid for each in members}
            held = [fd for each in members if (fd := tree.hold(each)) >= 0]
            _await_any(held, max(until - time.monotonic(), 0))
            if time.monotonic() >= until:
                break
        if not members:
            return


class _Family:
    """What belongs to one process.

    Args:
        leader: Its number.
        started: It, as it was at its start.
        mark: A variable that it hands on.
    """

    def __init__(self, leader: int, started: tree.Process | None, mark: bytes) -> None:
        self._leader = leader
        self._mark = mark
        self._since = 0 if started is None else started.started
        self._known = {} if started is None else {leader: started}
        self._strangers: set[tuple[int, int]] = set()

    def look(self) -> list[tree.Process]:
        """Return the living members, remembered for when they change their session."""
        processes = tree.table()
        roots = {each.pid for each in processes.values() if self._belongs(each)}
        below = {each.pid for each in tree.descendants(processes, roots)}
        found = [processes[pid] for pid in roots | below]
        self._known.update({each.pid: each for each in found})
        return [each for each in found if each.alive]

    def _belongs(self, process: tree.Process) -> bool:
        if process.session == self._leader:
            return True
        known = self._known.get(process.pid)
        if known is not None and known.started == process.started:
            return True
        name = (process.pid, process.started)
        if process.started < self._since or name in self._strangers:
            return False
        if self._is_marked(process.pid):
            return True
        self._strangers.add(name)
        return False

    def _is_marked(self, pid: int) -> bool:
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                return self._mark in file.read().split(b"\0")
        except OSError:
            # Gone, or somebody else's.
            return False


def _ask(members: list[tree.Process], number: int) -> None:
    for each in members:
        if (fd := tree.hold(each)) >= 0:
            tree.send(fd, number)
            os.close(fd)


def _await_any(held: list[int], limit_s: float) -> None:
    """Wait until one of these processes ends, and give their descriptors back."""
    poll = select.poll()
    for fd in held:
        poll.register(fd, select.POLLIN)
    with contextlib.suppress(InterruptedError):
        # Shortly at a time: what was forked meanwhile has not been asked.
        poll.poll(min(limit_s, 0.1) * 1000)
    for fd in held:
        os.close(fd)
