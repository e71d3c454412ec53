"""Gives a request that is sent again the outcome of the first one (`Idempotency-Key`).

Our addition, after the IETF's draft-ietf-httpapi-idempotency-key-header. A client that
lost an answer sends the same request with the same key, and nothing runs twice:

    begun     written before anything is started, with the name that its job will have
    answered  the whole answer, written before it is sent; it replaces `begun`

Whoever finds `begun` asks the keeper for that job, which outlives the api. When the keeper
does not know it and is still the same, it was never started; when it is another keeper,
nobody can tell, and the answer is an honest 409.
"""

import asyncio
import contextlib
import errno
import hashlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Protocol

import msgspec
from aiohttp import web

from agent import wire
from agent.errors import (
    AgentError,
    ConflictError,
    GoneError,
    InvalidRequestError,
    NotFoundError,
    StorageFullError,
    TimeLimitError,
    UnprocessableError,
)
from agent.web.routes import JSON_TYPE
from agent.web.stream import in_threads, stream

KEY_HEADER = "Idempotency-Key"
REPLAYED_HEADER = "Idempotency-Replayed"

KEY_MAX_CHARACTERS = 255
RECORDS_MAX = 1000
"""Outcomes remembered; of more, the oldest are forgotten."""
RECORDS_MAX_BYTES = 512 * 1024 * 1024
"""What they may take on disk together."""
RECORD_MAX_AGE_S = 24 * 3600.0
"""After this a key is as good as new."""
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
PIECE_BYTES = 256 * 1024

LASTING: dict[str, type[AgentError]] = {
    "timeout": TimeLimitError,
    "gone": GoneError,
}
"""Failures that are outcomes: something was run. After all others nothing was."""


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """An answer: its status, further headers, and its JSON in pieces."""

    status: int
    headers: Mapping[str, str]
    pieces: AsyncIterator[bytes]


class Attempt(Protocol):
    """What a request asks for, as often as it is asked."""

    async def first(self, job_id: str) -> Answered:
        """Start it under this name, and return its outcome."""

    async def again(self, job_id: str) -> Answered:
        """Return the outcome of what was started under this name.

        Raises:
            NotFoundError: Nothing is known of it.
        """

    async def stored(self, job_id: str) -> None:
        """Hear that its outcome needs not be asked for again."""


class _Begun(msgspec.Struct, frozen=True, kw_only=True):
    """The record of a request that has no outcome yet."""

    fingerprint: str
    life: str
    job_id: str


class _Head(msgspec.Struct, frozen=True, kw_only=True):
    """The first line of an answer's record; the rest of the file is the answer."""

    fingerprint: str
    status: int
    headers: dict[str, str]
    failure: str = ""
    code: str | None = None


class Keys:
    """All keys and what came of them.

    Args:
        directory: Where the records are; made when it is needed.
        life: The word for the keeper of now.
    """

    def __init__(self, directory: str, life: str) -> None:
        self._directory = directory
        self._life = life
        self._running: dict[str, asyncio.Task[bool]] = {}

    async def answer(
        self, key: str, path: str, body: bytes, attempt: Attempt
    ) -> Answered:
        """Return the outcome of the first request with this key.

        Args:
            key: The client's word for the request.
            path: The route; the same key on another one is another key.
            body: The request's body, which must be the same every time.
            attempt: What to do.

        Raises:
            InvalidRequestError: The key cannot be one.
            UnprocessableError: It was used with another body.
            ConflictError: It was begun, and nobody knows what came of it.
            AgentError: The outcome is a failure, or nothing was run.
        """
        if not (0 < len(key) <= KEY_MAX_CHARACTERS and key.isprintable()):
            raise InvalidRequestError(
                f"{KEY_HEADER} must have 1 to {KEY_MAX_CHARACTERS} printable characters"
            )
        name = _digest(f"{path}\n{key}".encode())
        fingerprint = _digest(body)
        is_first = name not in self._running
        if is_first:
            task = asyncio.create_task(self._once(name, fingerprint, attempt))
            self._running[name] = task
            task.add_done_callback(lambda done: self._over(name, done))
        # On its own: when this client leaves, the outcome is stored all the same.
        has_run = await asyncio.shield(self._running[name])
        is_first = is_first and has_run
        replayed = await self._replay(name, fingerprint, is_first=is_first)
        if replayed is not None:
            return replayed
        # There was no room to store the outcome; it is still where it came from.
        return await attempt.again(_job(name))

    def _over(self, name: str, task: asyncio.Task[bool]) -> None:
        del self._running[name]
        if not task.cancelled():
            # Seen here, in case that everybody who waited has left.
            task.exception()

    # -- the first time -----------------------------------------------------------

    async def _once(self, name: str, fingerprint: str, attempt: Attempt) -> bool:
        """Have an outcome stored; return whether it was not there already."""
        if await asyncio.to_thread(self._is_answered, name):
            return False
        await self._run(name, fingerprint, attempt)
        return True

    async def _run(self, name: str, fingerprint: str, attempt: Attempt) -> None:
        job_id, outcome = await self._plan(name, fingerprint, attempt)
        try:
            answered = await outcome(job_id)
        except tuple(LASTING.values()) as error:
            if not await self._store_failure(name, fingerprint, error):
                raise
        except ConflictError:
            raise
        except AgentError:
            # Nothing was run, so the next request with this key is a first one.
            await asyncio.to_thread(self._drop, name)
            raise
        else:
            if not await self._store(name, fingerprint, answered):
                return
        await attempt.stored(job_id)

    async def _plan(
        self, name: str, fingerprint: str, attempt: Attempt
    ) -> tuple[str, Callable[[str], Awaitable[Answered]]]:
        """Return the job's name, and how its outcome is come by."""
        begun = await asyncio.to_thread(self._begun, name)
        if begun is None:
            begun = _Begun(fingerprint=fingerprint, life=self._life, job_id=_job(name))
            await asyncio.to_thread(self._begin, name, begun)
            return begun.job_id, attempt.first
        if begun.fingerprint != fingerprint:
            raise _other_body()
        return begun.job_id, self._recovering(begun, attempt)

    def _recovering(
        self, begun: _Begun, attempt: Attempt
    ) -> Callable[[str], Awaitable[Answered]]:
        async def outcome(job_id: str) -> Answered:
            try:
                return await attempt.again(job_id)
            except NotFoundError:
                if begun.life == self._life:
                    # This keeper would know of it.
                    return await attempt.first(job_id)
                raise ConflictError(
                    "the request was begun, and what came of it is not known"
                ) from None

        return outcome

    async def _store(self, name: str, fingerprint: str, answered: Answered) -> bool:
        head = _Head(
            fingerprint=fingerprint,
            status=answered.status,
            headers=dict(answered.headers),
        )
        return await self._write(name, head, answered.pieces)

    async def _store_failure(
        self, name: str, fingerprint: str, error: AgentError
    ) -> bool:
        kind = next(each for each in LASTING if isinstance(error, LASTING[each]))
        head = _Head(
            fingerprint=fingerprint,
            status=0,
            headers={"message": error.message},
            failure=kind,
            code=error.code,
        )
        return await self._write(name, head, in_threads(iter(())))

    async def _write(
        self, name: str, head: _Head, pieces: AsyncIterator[bytes]
    ) -> bool:
        """Store an outcome; return False when there is no room for it."""
        path = f"{self._directory}/{name}"
        try:
            file = await asyncio.to_thread(open, f"{path}.new", "wb")
            with file:
                await asyncio.to_thread(file.write, wire.encode(head) + b"\n")
                async for piece in pieces:
                    await asyncio.to_thread(file.write, piece)
            await asyncio.to_thread(os.replace, f"{path}.new", f"{path}.answer")
            await asyncio.to_thread(_unlink, f"{path}.begun")
        except OSError as error:
            await asyncio.to_thread(_unlink, f"{path}.new")
            if error.errno in FULL:
                return False
            raise
        return True

    # -- every time ---------------------------------------------------------------

    async def _replay(
        self, name: str, fingerprint: str, *, is_first: bool
    ) -> Answered | None:
        """Return the stored outcome, or None when there is none."""
        try:
            file = await asyncio.to_thread(
                open, f"{self._directory}/{name}.answer", "rb"
            )
        except FileNotFoundError:
            return None
        try:
            head = _head_of(await asyncio.to_thread(file.readline), fingerprint)
        except BaseException:
            file.close()
            raise

        async def pieces() -> AsyncIterator[bytes]:
            with file:
                while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
                    yield piece

        told = {} if is_first else {REPLAYED_HEADER: "true"}
        return Answered(
            status=head.status, headers={**head.headers, **told}, pieces=pieces()
        )

    # -- records; in threads ------------------------------------------------------

    def _is_answered(self, name: str) -> bool:
        path = f"{self._directory}/{name}.answer"
        with contextlib.suppress(OSError):
            if time.time() - os.stat(path).st_mtime < RECORD_MAX_AGE_S:  # noqa: PTH116
                return True
            os.unlink(path)  # noqa: PTH108
        return False

    def _begun(self, name: str) -> _Begun | None:
        try:
            with open(f"{self._directory}/{name}.begun", "rb") as file:  # noqa: PTH123
                return msgspec.json.decode(file.read(), type=_Begun)
        except (FileNotFoundError, msgspec.DecodeError):
            # One that was cut short was written before anything was started.
            return None

    def _begin(self, name: str, begun: _Begun) -> None:
        try:
            os.makedirs(self._directory, mode=0o700, exist_ok=True)  # noqa: PTH103
            self._forget_oldest()
            with open(f"{self._directory}/{name}.begun", "wb") as file:  # noqa: PTH123
                file.write(wire.encode(begun))
        except OSError as error:
            if error.errno in FULL:
                raise StorageFullError(f"no room for {KEY_HEADER}'s record") from error
            raise

    def _drop(self, name: str) -> None:
        _unlink(f"{self._directory}/{name}.begun")

    def _forget_oldest(self) -> None:
        found = []
        for entry in os.scandir(self._directory):
            with contextlib.suppress(OSError):
                facts = entry.stat(follow_symlinks=False)
                found.append((facts.st_mtime, facts.st_size, entry.path))
        found.sort(reverse=True)
        used = 0
        for number, (at, size, path) in enumerate(found):
            used += size
            is_old = time.time() - at > RECORD_MAX_AGE_S
            if number >= RECORDS_MAX or used > RECORDS_MAX_BYTES or is_old:
                _unlink(path)


def _head_of(line: bytes, fingerprint: str) -> _Head:
    """Return what an answer's record says of it.

    Raises:
        UnprocessableError: It is another request's.
        AgentError: The outcome was this failure.
    """
    head = msgspec.json.decode(line, type=_Head)
    if head.fingerprint != fingerprint:
        raise _other_body()
    if head.failure:
        raise LASTING[head.failure](head.headers["message"], code=head.code)
    return head


def _job(name: str) -> str:
    """Return a job's name, in the form of a UUID, as a session's command has one."""
    return "-".join(
        (name[:8], name[8:12], f"8{name[13:16]}", f"8{name[17:20]}", name[20:32])
    )


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _other_body() -> UnprocessableError:
    return UnprocessableError(f"this {KEY_HEADER} was used with another request")


def _unlink(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)  # noqa: PTH108


KEYS = web.AppKey("idempotency_keys", Keys)


async def answer_once(
    request: web.Request, path: str, attempt: Attempt
) -> web.StreamResponse:
    """Answer a request that has an `Idempotency-Key`; `path` is without prefixes."""
    answered = await request.app[KEYS].answer(
        request.headers[KEY_HEADER], path, await request.read(), attempt
    )
    headers = {"Content-Type": JSON_TYPE, **answered.headers}
    return await stream(request, answered.pieces, headers, answered.status)
