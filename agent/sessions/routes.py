"""The routes of sessions."""

import asyncio
import contextlib
from base64 import b64encode
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Literal

from aiohttp import web
from aiohttp.http import WSCloseCode

from agent import wire
from agent.errors import InvalidRequestError, RangeError
from agent.keeper.client import Chunk, Keeper, Subscription
from agent.keeper.shapes import SessionCommand
from agent.process.limits import Bounds
from agent.registry import KEEPER, SETTINGS, WORK_DIR
from agent.sessions.executing import Execution
from agent.sessions.labels import text_of
from agent.sessions.levels import Level, begins_at_home, level_of
from agent.sessions.logs import Snapshot, exact, json_of, logs_of, messages, with_pauses
from agent.sessions.models import (
    Command,
    CreateSessionRequest,
    Resources,
    Session,
    SessionCommandLogs,
    SessionExecuteRequest,
    SessionExecuteResponse,
    SessionSendInputRequest,
    SignalRequest,
    Verdict,
)
from agent.sessions.sessions import (
    ENTRYPOINT,
    ENTRYPOINT_COMMAND,
    CommandState,
    Sessions,
)
from agent.web.events import PING, begin_events, encode_event, last_event_id
from agent.web.guard import is_upgrade
from agent.web.idempotency import KEY_HEADER, answer_once
from agent.web.routes import JSON_TYPE, Routes, with_headers
from agent.web.server import told_of_the_end
from agent.web.stream import stream
from agent.web.websockets import WEBSOCKETS, beside, reason_bytes
from agent.wire import UNSET

routes = Routes("process")

SESSIONS = web.AppKey("sessions", Sessions)

TEXT_TYPE = "text/plain; charset=utf-8"
BYTES_TYPE = "application/octet-stream"

OFFSET_HEADER = "X-Toolbox-Offset"
"""Where in the log an answer begins."""
NEXT_OFFSET_HEADER = "X-Toolbox-Next-Offset"
"""Where to go on."""
DROPPED_HEADER = "X-Toolbox-Dropped-Bytes"
"""What was written but not kept; absent when nothing."""
PING_S = 30.0
"""Between two pings to a follower that hears nothing; proxies cut silence at 60 s."""

Stream = Literal["stdout", "stderr"]
NUMBERS: dict[str | None, int] = {None: 0, "stdout": 1, "stderr": 2}


async def context(app: web.Application) -> AsyncIterator[None]:
    """Open what the routes work with."""
    settings = app[SETTINGS]
    app[SESSIONS] = Sessions(
        app[KEEPER],
        app[WORK_DIR],
        entrypoint=settings.entrypoint,
        grace_s=settings.grace_s,
        log_max_bytes=settings.command_log_max_bytes,
        bounds=Bounds(settings),
    )
    yield


@routes.post("/process/session", status=201, errors=(400, 409, 429, 500))
async def create_session(request: web.Request, body: CreateSessionRequest) -> None:
    """Start a shell that keeps its state between commands.

    It begins in the work dir, for clients before 0.103.0 in the home directory. It lives
    until it is deleted or its shell ends, also when the API process is restarted.
    """
    await request.app[SESSIONS].create(
        body.session_id,
        at_home=begins_at_home(request.headers),
        limits=body.limits,
    )


@routes.get("/process/session")
async def list_sessions(request: web.Request) -> list[Session]:
    """List all sessions with their commands, the entrypoint's left out."""
    found = await request.app[SESSIONS].list()
    return [_session(name, commands) for name, commands in found]


@routes.get("/process/session/entrypoint", errors=(404,))
async def get_entrypoint_session(request: web.Request) -> Session:
    """Tell of the image's own command."""
    return _session(ENTRYPOINT, await request.app[SESSIONS].get(ENTRYPOINT))


@routes.delete("/process/session/entrypoint", status=204, errors=(400,))
async def delete_entrypoint_session(request: web.Request) -> None:
    """Refuse to end the image's own command."""
    await request.app[SESSIONS].delete(ENTRYPOINT)


@routes.get("/process/session/{session_id}", errors=(404,))
async def get_session(request: web.Request, session_id: str) -> Session:
    """Tell of one session."""
    return _session(session_id, await request.app[SESSIONS].get(session_id))


def _session(name: str, commands: tuple[SessionCommand, ...]) -> Session:
    return Session(
        session_id=name,
        commands=[
            Command(
                id=each.id,
                command=wire.printable(each.text),
                exit_code=UNSET if each.exit_code is None else each.exit_code,
            )
            for each in commands
        ],
    )


@routes.delete("/process/session/{session_id}", status=204, errors=(400, 404))
async def delete_session(request: web.Request, session_id: str) -> None:
    """End a session with everything that was started in it.

    Every process is asked to end, and killed after the grace time. Calls that wait for
    a command get 410; followers get the rest of the log.
    """
    await request.app[SESSIONS].delete(session_id)


@routes.post(
    "/process/session/{session_id}/exec",
    errors=(400, 404, 408, 409, 410, 413, 422, 429, 500, 507),
)
async def session_execute_command(
    request: web.Request, session_id: str, body: SessionExecuteRequest
) -> SessionExecuteResponse | web.StreamResponse:
    """Run a command in a session's shell, when those before it have ended.

    With `runAsync` the answer, 202, comes at once. Otherwise it comes when the command
    has ended, though its background children may go on and write to its log. A client
    that leaves ends its own waiting, never the command. `timeout`, `limits` and the header
    `Idempotency-Key` are our additions: what the command runs is killed at the timeout,
    and the answer is 408; a request with the key of an earlier one gets its outcome.
    """
    execution = Execution(
        request.app[SESSIONS], session_id, body, level_of(request.headers)
    )
    if KEY_HEADER in request.headers:
        path = f"/process/session/{session_id}/exec"
        return await answer_once(request, path, execution)
    if execution.is_async:
        return with_headers(await execution.start(), {}, status=202)
    outcome = await execution.run()
    if outcome.log.is_short:
        return execution.inline(outcome)
    return await stream(request, execution.pieces(outcome), {"Content-Type": JSON_TYPE})


@routes.get("/process/session/{session_id}/command/{command_id}", errors=(404,))
async def get_session_command(
    request: web.Request, session_id: str, command_id: str, verbose: bool = False
) -> Command:
    """Tell of one command; `exitCode` is there once all of its output is.

    With `verbose`, our addition, the answer has a verdict: when it began and ended, why,
    how much it wrote, and what it used.
    """
    state = await request.app[SESSIONS].command(session_id, command_id)
    return Command(
        id=state.id,
        command=wire.printable(state.text),
        exit_code=state.exit.exit_code if state.exit is not None else UNSET,
        verdict=_verdict(state) if verbose else UNSET,
    )


def _verdict(state: CommandState) -> Verdict:
    job, how = state.job, state.exit
    return Verdict(
        state="running" if job.state == "draining" else job.state,
        started_at=_moment(job.started),
        ended_at=_moment(how.ended) if how is not None else None,
        duration_seconds=how.duration_s if how is not None else None,
        signal=(how.signal or None) if how is not None else None,
        reason=how.reason if how is not None else None,
        bytes_written=job.output_bytes,
        bytes_dropped=job.dropped_bytes,
        resources=None
        if how is None
        else Resources(
            user_seconds=how.user_s,
            system_seconds=how.system_s,
            peak_memory_bytes=how.max_rss_bytes or None,
        ),
    )


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


@routes.post(
    "/process/session/{session_id}/command/{command_id}/input",
    status=204,
    errors=(400, 404, 410, 413),
)
async def send_input(
    request: web.Request,
    session_id: str,
    command_id: str,
    body: SessionSendInputRequest,
) -> None:
    """Write a line to the input of a command that runs, or waits for its turn.

    The request never waits for the command to read it. Up to 1 MiB is queued.
    """
    await request.app[SESSIONS].send(session_id, command_id, body.data)


@routes.post(
    "/process/session/{session_id}/command/{command_id}/eof",
    status=204,
    errors=(400, 404, 410),
)
async def end_input(request: web.Request, session_id: str, command_id: str) -> None:
    """Give a command the end of its input, after all that was written before."""
    await request.app[SESSIONS].end_input(session_id, command_id)


@routes.post(
    "/process/session/{session_id}/command/{command_id}/signal",
    status=204,
    errors=(400, 404, 409, 410),
)
async def signal_command(
    request: web.Request, session_id: str, command_id: str, body: SignalRequest
) -> None:
    """Send a signal to every process of a running command.

    The session's shell is spared; only when the command runs nothing besides the shell,
    as a loop of builtins does, the shell itself gets it.
    """
    await request.app[SESSIONS].signal(session_id, command_id, body.signal)


# -- logs -------------------------------------------------------------------------


@routes.get(
    "/process/session/entrypoint/logs", errors=(400, 404, 416), websocket="also"
)
async def get_entrypoint_logs(
    request: web.Request,
    follow: bool = False,
    offset: int | None = None,
    stream: Stream | None = None,
) -> SessionCommandLogs | web.StreamResponse:
    """Return the log of the image's own command, as with any other command's log."""
    state = await request.app[SESSIONS].command(ENTRYPOINT, ENTRYPOINT_COMMAND)
    return await _logs(request, state, follow=follow, offset=offset, stream=stream)


@routes.get(
    "/process/session/{session_id}/command/{command_id}/logs",
    errors=(400, 404, 416),
    websocket="also",
)
async def get_session_command_logs(
    request: web.Request,
    session_id: str,
    command_id: str,
    follow: bool = False,
    offset: int | None = None,
    stream: Stream | None = None,
) -> SessionCommandLogs | web.StreamResponse:
    """Return a command's log.

    All of it so far, or with `follow` from its beginning to the end of the last process
    that can write to it: over a websocket when the request asks for an upgrade, else as
    a chunked body. Which of the three formats is sent depends on the client's version.

    With `offset`, our addition, the log comes as bytes from there on, without markers;
    `stream` leaves one of the two outputs. `X-Toolbox-Next-Offset` tells where to go on;
    one who follows both outputs adds the number of bytes that came. With `Accept:
    text/event-stream` every event's id is the offset to go on from, and `Last-Event-ID`
    is understood.
    """
    state = await request.app[SESSIONS].command(session_id, command_id)
    return await _logs(request, state, follow=follow, offset=offset, stream=stream)


async def _logs(
    request: web.Request,
    state: CommandState,
    *,
    follow: bool,
    offset: int | None,
    stream: Stream | None,
) -> SessionCommandLogs | web.StreamResponse:
    keeper = request.app[KEEPER]
    wants_events = "text/event-stream" in request.headers.get("Accept", "")
    if offset is not None and offset < 0:
        raise InvalidRequestError("offset must not be negative")
    if is_upgrade(request):
        return await _by_websocket(
            request, keeper, state, follow=follow, offset=offset, only=NUMBERS[stream]
        )
    if follow and wants_events:
        begin = last_event_id(request, offset) or 0
        return await _by_events(request, keeper, state.job.id, begin, NUMBERS[stream])
    if follow:
        return await _by_chunks(
            request, keeper, state, offset=offset, only=NUMBERS[stream]
        )
    if offset is not None or stream is not None:
        return await _from_offset(
            request, keeper, state.job.id, offset or 0, NUMBERS[stream]
        )
    return await _snapshot(request, await Snapshot.take(keeper, state.job.id), state)


def _level(request: web.Request, state: CommandState) -> Level:
    level = level_of(request.headers, websocket=is_upgrade(request))
    if state.job.id == ENTRYPOINT and level is Level.COMBINED:
        return Level.LABELLED
    return level


async def _snapshot(
    request: web.Request, log: Snapshot, state: CommandState
) -> SessionCommandLogs | web.StreamResponse:
    level = _level(request, state)
    if level is Level.SPLIT:
        if log.is_short:
            return logs_of(log)
        return await stream(request, json_of(log), {"Content-Type": JSON_TYPE})
    is_labelled = level is Level.LABELLED
    if log.is_short:
        text = text_of(log.first_chunks(), labelled=is_labelled)
        return web.Response(body=text.encode(), headers={"Content-Type": TEXT_TYPE})
    pieces = log.pieces(labelled=is_labelled)
    texts = (each.encode() async for each in pieces)
    return await stream(request, texts, {"Content-Type": TEXT_TYPE})


async def _from_offset(
    request: web.Request, keeper: Keeper, job_id: str, offset: int, only: int
) -> web.StreamResponse:
    log = await Snapshot.take(keeper, job_id, offset)
    chunks = (
        chunk.data async for chunk in log.chunks() if not only or chunk.stream == only
    )
    headers = {
        "Content-Type": BYTES_TYPE,
        OFFSET_HEADER: str(offset),
        NEXT_OFFSET_HEADER: str(log.size),
    }
    if log.dropped_bytes:
        headers[DROPPED_HEADER] = str(log.dropped_bytes)
    return await stream(request, chunks, headers)


async def _by_chunks(
    request: web.Request,
    keeper: Keeper,
    state: CommandState,
    *,
    offset: int | None,
    only: int,
) -> web.StreamResponse:
    is_labelled = _level(request, state) is not Level.COMBINED
    subscription = _subscription(keeper, state.job.id, offset or 0)
    async with subscription as log:

        async def bodies() -> AsyncIterator[bytes]:
            async for ready in messages(
                log, labelled=is_labelled, only=only, says_dropped=True
            ):
                yield b"".join(ready)

        pieces = bodies() if offset is None else exact(log, only)
        with told_of_the_end(request, log.leave):
            headers = {"Content-Type": BYTES_TYPE}
            if offset is not None:
                headers[OFFSET_HEADER] = str(log.offset)
            return await stream(request, pieces, headers, at_once=True)


async def _by_events(
    request: web.Request, keeper: Keeper, job_id: str, offset: int, only: int
) -> web.StreamResponse:
    async with _subscription(keeper, job_id, offset) as log:
        with told_of_the_end(request, log.leave):
            response = await begin_events(request)
            async for chunk in with_pauses(log, lambda: PING_S):
                if chunk is None:
                    await response.write(PING)
                elif not only or chunk.stream == only:
                    await response.write(_as_event(chunk))
            if log.end is not None:
                facts = {"offset": log.end.offset, "dropped": log.end.dropped_bytes}
                await response.write(
                    encode_event(log.end.offset, "end", wire.encode(facts))
                )
            await response.write_eof()
            return response


def _as_event(chunk: Chunk) -> bytes:
    """Return a chunk as an event; what is not text comes as base64."""
    facts: dict[str, object] = {
        "stream": "stdout" if chunk.stream == 1 else "stderr",
        "offset": chunk.offset,
        "time": _moment(chunk.time),
    }
    try:
        facts["text"] = chunk.data.decode()
    except UnicodeDecodeError:
        facts["base64"] = b64encode(chunk.data).decode()
    end = chunk.offset + len(chunk.data)
    return encode_event(end, "output", wire.encode(facts))


async def _by_websocket(
    request: web.Request,
    keeper: Keeper,
    state: CommandState,
    *,
    follow: bool,
    offset: int | None,
    only: int,
) -> web.StreamResponse:
    is_labelled = _level(request, state) is not Level.COMBINED
    sockets = request.app[WEBSOCKETS]
    async with _subscription(keeper, state.job.id, offset or 0) as log:
        if not follow:
            log.stop_at((await keeper.info(state.job.id)).stored_bytes)
        socket = await sockets.accept(request)
        try:
            async with beside(_read(socket, log), _ping(socket)):
                async for ready in messages(
                    log, labelled=is_labelled, only=only, says_dropped=offset is None
                ):
                    for message in ready:
                        await socket.send_bytes(message)
            await _close(socket, log)
        finally:
            sockets.forget(socket)
    return socket


async def _close(socket: web.WebSocketResponse, log: Subscription) -> None:
    """Close with 1000, whether the command or its session has ended."""
    why = log.end.reason if log.end is not None else ""
    if why.startswith("unreadable"):
        await socket.close(code=WSCloseCode.INTERNAL_ERROR, message=reason_bytes(why))
    else:
        await socket.close(code=WSCloseCode.OK)


async def _read(socket: web.WebSocketResponse, log: Subscription) -> None:
    """Take whatever the client says, for the sake of its pings and its close."""
    try:
        async for _ in socket:
            pass
    finally:
        log.leave()


async def _ping(socket: web.WebSocketResponse) -> None:
    """Keep proxies from taking silence for death; nothing waits for the answers."""
    while True:
        await asyncio.sleep(PING_S)
        await socket.ping()


@contextlib.asynccontextmanager
async def _subscription(
    keeper: Keeper, job_id: str, offset: int
) -> AsyncIterator[Subscription]:
    """Follow a log from an offset on.

    Raises:
        RangeError: It has less than that.
    """
    if offset and offset > (size := (await keeper.info(job_id)).stored_bytes):
        raise RangeError(f"the log has only {size} bytes", size_bytes=size)
    async with keeper.subscribe(job_id, offset) as log:
        yield log
