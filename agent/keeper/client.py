"""The api's side of the line to the keeper, for asyncio.

    keeper = await Keeper.connect(3)
    await keeper.ready()
    result = await keeper.run(Spec(argv=["/bin/sh", "-c", "echo hi"]))
    async with keeper.subscribe(job.id, offset) as output:
        async for chunk in output:
            ...

Cancelling a coroutine harms neither the line nor the job: the answer is taken all the
same, and dropped. When the keeper is gone every call raises `KeeperGoneError`, and
`on_exit` is set.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Mapping
from typing import Protocol, Self, TypeAlias, cast

from agent.errors import NotFoundError, TooLargeError
from agent.keeper.answers import (
    KeeperGoneError,
    StartError,
    error_of,
    exit_of,
    header_of,
    job_of,
    piece_of,
    result_of,
)
from agent.keeper.following import WINDOW_BYTES, Subscription
from agent.keeper.frames import (
    UNSEEN,
    Decoder,
    FrameError,
    Header,
    Json,
    dump,
    head,
    load,
)
from agent.keeper.shapes import (
    Chunk,
    End,
    Exit,
    Job,
    Piece,
    RunResult,
    Spec,
    SpoolFile,
)
from agent.settings import Settings

__all__ = [
    "UNSEEN",
    "Chunk",
    "End",
    "Exit",
    "Job",
    "Keeper",
    "KeeperGoneError",
    "Piece",
    "RunResult",
    "Spec",
    "SpoolFile",
    "StartError",
    "Subscription",
]

LISTENERS_MAX = 3
"""The toolbox API, and the dev command's control plane and previews."""
HELLO_LIMIT_S = 30.0
"""The keeper writes its first frame before the api has begun to run."""

Answer = tuple[Header, bytes]
Fact: TypeAlias = "bool | int | float | str | list[str] | None"
"""What an event may say of something."""


class Tell(Protocol):
    """Tells the timeline, as `Keeper.tell`."""

    def __call__(self, kind: str, **facts: Fact) -> None:
        """Tell what has just happened."""


class Keeper:
    """The line to the keeper; made by `connect`.

    Attributes:
        settings: The agent's options.
        listeners: The sockets to serve on, whose owner the caller becomes.
        generation: How many api processes there have been, this one included.
        work_dir: The absolute directory that relative ones resolve against.
        life: Another word for every keeper that there ever is.
        owner_tag: What the environment of a child that the api starts itself has as
            `TOOLBOX_OWNER`; the api's own has it already.
        on_drain: Set when the agent stops: close what is open, answer what is under way,
            then call `drained`.
        on_exit: Set when the api is to end now.
        on_events: Called with the first and the last number of events that have happened,
            and their lines, or nothing when the api is behind; see `KeptEvents`.
    """

    settings: Settings
    listeners: list[socket.socket]
    generation: int
    work_dir: str
    life: str
    owner_tag: str

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._gone = False
        self._count = 0
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._exits: dict[str, asyncio.Task[Exit]] = {}
        self._subscriptions: dict[int, Subscription] = {}
        self._hello: asyncio.Future[Answer] | None = None
        self._room = asyncio.Event()
        self._room.set()
        self.on_drain = asyncio.Event()
        self.on_exit = asyncio.Event()
        self.on_events: Callable[[int, int, bytes], None] = _unheard

    @classmethod
    async def connect(cls, fd: int) -> Self:
        """Take the line on a descriptor, and the keeper's greeting from it.

        Raises:
            KeeperGoneError: There is no keeper at its other end.
        """
        line = socket.socket(fileno=fd)
        line.setblocking(False)
        line.set_inheritable(False)
        loop = asyncio.get_running_loop()
        keeper = cls()
        async with asyncio.timeout(HELLO_LIMIT_S):
            keeper.listeners = await _listeners(line)
        keeper._hello = loop.create_future()
        transport, _ = await loop.create_unix_connection(
            lambda: _Line(keeper._frame, keeper._lost, keeper._room), sock=line
        )
        keeper._transport = transport
        async with asyncio.timeout(HELLO_LIMIT_S):
            header, payload = await keeper._hello
        keeper._greeted(header, payload)
        return keeper

    def _greeted(self, header: Header, payload: bytes) -> None:
        self.settings = Settings.from_json(payload)
        self.generation = cast("int", header["generation"])
        self.work_dir = cast("str", header["work_dir"])
        self.life = cast("str", header["life"])
        self.owner_tag = f"api:{self.generation}"

    async def ready(self) -> None:
        """Say that requests are served."""
        await self.request("ready")

    async def drained(self) -> None:
        """Say that nothing is under way any more, after `on_drain`."""
        await self.request("drained")

    async def aclose(self) -> None:
        """Close the line; jobs are untouched."""
        if self._transport is not None:
            self._transport.close()
        self._lost()
        for task in list(self._exits.values()):
            task.cancel()
        await asyncio.gather(*self._exits.values(), return_exceptions=True)

    # -- jobs ---------------------------------------------------------------------

    async def run(self, spec: Spec) -> RunResult:
        """Run a command to its end and return what came of it.

        A start that failed is a result too. When the caller is cancelled the command goes
        on, and what came of it is dropped.

        Raises:
            TooManyError: As many jobs as allowed are running.
            InvalidRequestError: What no process can be given.
            StorageFullError: There is no room for the script.
        """
        header, payload = await self.request("run", spec.script or b"", header_of(spec))
        return result_of(header, payload)

    async def result(self, job_id: str) -> RunResult:
        """Return what came of a run that is held, once it has ended.

        Raises:
            NotFoundError: There is no such job.
        """
        return result_of(*await self.request("result", b"", {"job": job_id}))

    async def forget(self, job_id: str) -> None:
        """Drop a job that has ended and its output; does nothing when it is unknown.

        Raises:
            ConflictError: It has not ended.
        """
        if job_id:
            await self.request("forget", b"", {"job": job_id})

    async def spawn(self, spec: Spec) -> Job:
        """Start a job that stays until it is forgotten.

        Raises:
            StartError: It cannot be started; says why.
            TooManyError: As many jobs as allowed are running.
            StorageFullError: There is no room for the script.
        """
        header, _ = await self.request("spawn", spec.script or b"", header_of(spec))
        return job_of(header["job"])

    async def info(self, job_id: str) -> Job:
        """Return what there is to know about a job.

        Raises:
            NotFoundError: There is no such job.
        """
        header, _ = await self.request("info", b"", {"job": job_id})
        return job_of(header["job"])

    async def list(self, *kinds: str) -> tuple[Job, ...]:
        """Return the jobs of some kinds, oldest first.

        Without a kind all of them, but for what a session has done and is done with:
        there may be thousands of that.
        """
        _, payload = await self.request("list", b"", {"kinds": list(kinds)})
        return tuple(map(job_of, cast("tuple[Json]", load(payload)["jobs"])))

    async def wait(self, job_id: str) -> Exit:
        """Return how a job ended, once all that it wrote until then is stored.

        Raises:
            NotFoundError: There is no such job.
        """
        # One question for all who wait: each would stay with the keeper until the end,
        # also those whose asker has lost patience.
        task = self._exits.get(job_id)
        if task is None:
            task = asyncio.ensure_future(self._wait(job_id))
            self._exits[job_id] = task
            task.add_done_callback(lambda done: self._waited(job_id, done))
        return await asyncio.shield(task)

    async def _wait(self, job_id: str) -> Exit:
        header, _ = await self.request("wait", b"", {"job": job_id})
        return exit_of(header["exit"])

    def _waited(self, job_id: str, task: asyncio.Task[Exit]) -> None:
        del self._exits[job_id]
        if not task.cancelled():
            # Seen here, in case that everybody who asked has left.
            task.exception()

    async def signal(self, job_id: str, signum: int, *, group: bool = True) -> None:
        """Signal a job's process group, or its leader only.

        Raises:
            NotFoundError: There is no such job.
            ConflictError: It has ended; nothing was signalled.
        """
        await self.request(
            "signal", b"", {"job": job_id, "signal": signum, "group": group}
        )

    async def end(self, job_id: str, grace_s: float) -> int:
        """End a job and everything that came of it, by the ladder.

        Returns as soon as nothing of it is left alive: the number of processes that could
        not be killed, which is 0.

        Args:
            job_id: Which one; it may have ended, its background children are meant too.
            grace_s: Between asking and killing; 0 kills at once.

        Raises:
            NotFoundError: There is no such job.
        """
        header, _ = await self.request("end", b"", {"job": job_id, "grace_s": grace_s})
        return cast("int", header["left"])

    async def write(self, job_id: str, data: bytes) -> None:
        """Queue input for a job.

        Raises:
            TooLargeError: It has not read the MiB that is queued; nothing was added.
            ConflictError: It takes no input, or none any more.
        """
        await self.request("write", data, {"job": job_id})

    async def close_stdin(self, job_id: str) -> None:
        """Give a job the end of its input, after all that was written before."""
        await self.request("eof", b"", {"job": job_id})

    async def read(self, job_id: str, offset: int = 0) -> Piece:
        """Return a piece of what is stored of a job's output, from an offset on.

        Raises:
            NotFoundError: There is no such job.
            ConflictError: It is one that is answered as a whole.
        """
        question: Header = {"job": job_id, "offset": offset}
        return piece_of(*await self.request("read", b"", question))

    async def resize(self, job_id: str, rows: int, columns: int) -> None:
        """Set the size of a job's terminal.

        Raises:
            ConflictError: It has no terminal, or none any more.
        """
        size: Header = {"job": job_id, "rows": rows, "columns": columns}
        await self.request("resize", b"", size)

    def subscribe(
        self, job_id: str, offset: int = 0, *, window_bytes: int = WINDOW_BYTES
    ) -> Subscription:
        """Return the output of a job from an offset on, to be used with `async with`.

        Gap-free and without duplicates; ends when the job has ended and nothing can write
        to it any more. The log waits for its reader, a terminal for at most 5 s.

        Args:
            job_id: Which one.
            offset: Where to begin; -1 for what comes from now on; of a terminal, `UNSEEN`
                for what no follower has had. What has fallen off a terminal's ring is
                left out (see `Subscription.first_offset`).
            window_bytes: What may be under way and not read yet.
        """
        return Subscription(self, job_id, offset, window_bytes)

    # -- environment and store ----------------------------------------------------

    async def environment(self) -> dict[str, str]:
        """Return the base environment of new jobs."""
        _, payload = await self.request("env.get")
        return cast("dict[str, str]", load(payload)["env"])

    async def set_environment(self, variables: Mapping[str, str]) -> None:
        """Replace the base environment of new jobs, for this and later apis."""
        await self.request("env.set", dump({"env": dict(variables)}))

    async def kv_set(self, name: str, value: bytes) -> None:
        """Keep bytes under a name, for this and later apis; in memory only.

        Raises:
            TooLargeError: No room is left (4 MiB in all).
        """
        await self.request("kv.set", value, {"name": name})

    async def kv_get(self, name: str) -> bytes | None:
        """Return what is kept under a name, or None."""
        try:
            _, payload = await self.request("kv.get", b"", {"name": name})
        except NotFoundError:
            return None
        return payload

    async def kv_delete(self, name: str) -> None:
        """Drop what is kept under a name, if anything."""
        await self.request("kv.delete", b"", {"name": name})

    async def kv_list(self) -> tuple[str, ...]:
        """Return the names under which something is kept."""
        _, payload = await self.request("kv.list")
        return tuple(cast("tuple[str]", load(payload)["names"]))

    def tell(self, kind: str, **facts: Fact) -> None:
        """Tell the timeline of the sandbox what has just happened.

        Costs a frame, waits for nothing and never fails. No secrets, no contents, no
        addresses with credentials: whoever may ask the api may read it.

        Args:
            kind: Its type: the thing and what it did, with a dot between (`port.opened`).
            facts: What there is to know, None left out; on the wire their names are
                camelCase.
        """
        told = {_camel(name): each for name, each in facts.items() if each is not None}
        # With nobody to tell it to there is nobody to read it either.
        with contextlib.suppress(KeeperGoneError, TooLargeError):
            self.post({"op": "event", "type": kind, "facts": cast("Json", told)})

    @property
    def followers(self) -> int:
        """How many follow an output."""
        return len(self._subscriptions)

    async def stats(self) -> dict[str, int | float]:
        """Return the keeper's numbers: jobs, bytes, descriptors, restarts and so on."""
        header, _ = await self.request("stats")
        return {
            name: value
            for name, value in header.items()
            if isinstance(value, int | float) and name not in {"re", "ok"}
        }

    # -- the line -----------------------------------------------------------------

    async def request(
        self, operation: str, payload: bytes = b"", header: Header | None = None
    ) -> Answer:
        """Send a request and return its answer: header and payload.

        Raises:
            AgentError: It was refused; the type says why.
            KeeperGoneError: There is nobody to answer.
        """
        number = self._count = self._count + 1
        self.post({"id": number, "op": operation, **(header or {})}, payload)
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        await self._room.wait()
        return await future

    def post(self, header: Header, payload: bytes = b"") -> None:
        """Send a frame that has no answer.

        Raises:
            KeeperGoneError: There is nobody to send it to.
            TooLargeError: It is more than a frame may hold.
        """
        if self._gone or self._transport is None:
            raise KeeperGoneError("the keeper is gone")
        try:
            before = head(header, len(payload))
        except FrameError as error:
            raise TooLargeError(f"too much for one process: {error}") from error
        self._transport.write(before + payload if len(payload) < 65536 else before)
        if len(payload) >= 65536:
            self._transport.write(payload)

    def follow(self, subscription: Subscription) -> int:
        """Give a subscription its number."""
        self._count += 1
        self._subscriptions[self._count] = subscription
        return self._count

    def unfollow(self, number: int) -> None:
        """Forget a subscription that is over."""
        self._subscriptions.pop(number, None)

    async def ask(self, operation: str, header: Header) -> Header:
        """Send a request and return its answer."""
        answer, _ = await self.request(operation, b"", header)
        return answer

    def _frame(self, header: Header, payload: bytes) -> None:
        number = header.get("re")
        if number is None:
            self._event(header, payload)
            return
        future = self._waiting.pop(cast("int", number), None)
        if future is None:
            return
        if future.done():
            self._unwanted(header)
        elif "error" in header:
            future.set_exception(error_of(cast("Header", header["error"])))
        else:
            future.set_result((header, payload))

    def _unwanted(self, header: Header) -> None:
        """Drop an answer whose asker has left."""
        if "spool" in header and not header.get("held") and not self._gone:
            self.post({"id": 0, "op": "forget", "job": header["job"]})

    def _event(self, header: Header, payload: bytes) -> None:
        match header.get("ev"):
            case "data" | "end":
                subscription = self._subscriptions.get(cast("int", header["sub"]))
                if subscription is not None:
                    subscription.receive(header, payload)
            case "ping":
                self.post({"op": "pong"})
            case "drain" | "exit" as word:
                (self.on_drain if word == "drain" else self.on_exit).set()
            case "events":
                first, last = cast("int", header["first"]), cast("int", header["last"])
                self.on_events(first, last, payload)
            case "hello":
                if self._hello is not None and not self._hello.done():
                    self._hello.set_result((header, payload))
            case _:
                """A later keeper's; nothing that this api waits for."""

    def _lost(self) -> None:
        """Tell everybody who waits that the keeper is gone."""
        self._gone = True
        self._room.set()
        gone = KeeperGoneError("the keeper is gone")
        for future in [*self._waiting.values(), self._hello]:
            if future is not None and not future.done():
                future.set_exception(gone)
                # Marked as seen: not everybody who asked is still there.
                future.exception()
        self._waiting.clear()
        for subscription in list(self._subscriptions.values()):
            subscription.fail(gone)
        self.on_exit.set()


def _unheard(_first: int, _last: int, _lines: bytes) -> None:
    """Do nothing: nobody listens."""


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)


async def _listeners(line: socket.socket) -> list[socket.socket]:
    """Take the listening sockets, which come before the first frame.

    Raises:
        KeeperGoneError: The line was closed instead.
    """
    loop = asyncio.get_running_loop()
    arrived = asyncio.Event()
    loop.add_reader(line, arrived.set)
    try:
        await arrived.wait()
    finally:
        loop.remove_reader(line)
    text, fds, _, _ = socket.recv_fds(line, 1, LISTENERS_MAX, socket.MSG_CMSG_CLOEXEC)
    if not text:
        line.close()
        raise KeeperGoneError("the keeper is gone")
    return [socket.socket(fileno=fd) for fd in fds]


class _Line(asyncio.BufferedProtocol):
    """Cuts what comes into frames; whoever writes too fast waits for room.

    Args:
        take: Called with each frame.
        lost: Called when nothing more can come.
        room: Clear while the transport's buffer is full.
    """

    def __init__(
        self,
        take: Callable[[Header, bytes], None],
        lost: Callable[[], None],
        room: asyncio.Event,
    ) -> None:
        self._take = take
        self._lost = lost
        self._room = room
        self._decoder = Decoder()

    def get_buffer(self, _sizehint: int) -> memoryview:
        return self._decoder.space()

    def buffer_updated(self, nbytes: int) -> None:
        try:
            frames = self._decoder.received(nbytes)
        except FrameError:
            self._lost()
            return
        for header, payload in frames:
            self._take(header, payload)

    def connection_lost(self, _error: Exception | None) -> None:
        self._lost()

    def pause_writing(self) -> None:
        self._room.clear()

    def resume_writing(self) -> None:
        self._room.set()
