"""The route of execute."""

from collections.abc import AsyncIterator

from aiohttp import web

from agent.process.attempt import RunAttempt
from agent.process.execute import Command, Executor
from agent.process.limits import Bounds
from agent.process.models import ExecuteRequest, ExecuteResponse
from agent.process.result import answer_of, headers_of, inline_result, pieces_of
from agent.registry import KEEPER, SETTINGS, WORK_DIR
from agent.web.idempotency import KEY_HEADER, KEYS, Keys, answer_once
from agent.web.routes import Routes, with_headers
from agent.web.stream import stream_json

routes = Routes("process")

EXECUTOR = web.AppKey("executor", Executor)


async def context(app: web.Application) -> AsyncIterator[None]:
    """Open what the routes work with."""
    settings = app[SETTINGS]
    app[EXECUTOR] = Executor(
        app[KEEPER], app[WORK_DIR], settings.result_max_bytes, Bounds(settings)
    )
    app[KEYS] = Keys(f"{settings.state_dir}/idempotency", app[KEEPER].life)
    yield


@routes.post("/process/execute", errors=(400, 408, 409, 413, 422, 429, 507))
async def execute(
    request: web.Request, body: ExecuteRequest
) -> ExecuteResponse | web.StreamResponse:
    """Run one shell command to its end.

    The answer comes when the shell has exited; children that it left in the background
    live on. At the timeout its whole tree is killed and the answer is 408. A command
    that cannot be started has exit code -1 and the reason as its result. A client that
    leaves ends its own waiting, never the command. `X-Toolbox-Dropped-Bytes` tells how
    much of the middle of a very large output was left out, and `X-Toolbox-Exit-Reason`
    why a command did not exit by itself: `signalled`, `oom-killed` or `cpu-limit`.
    `limits` and the header `Idempotency-Key` are our additions: a request with the key of
    an earlier one gets the outcome of that one.
    """
    executor = request.app[EXECUTOR]
    command = Command(
        line=body.command,
        cwd=body.cwd,
        environment=body.envs,
        timeout_s=body.timeout,
        limits=body.limits,
    )
    if KEY_HEADER in request.headers:
        return await answer_once(
            request,
            "/process/execute",
            RunAttempt(
                lambda job_id: executor.run(command, job_id),
                executor.result,
                request.app[KEEPER].forget,
                answer_of,
            ),
        )
    result = await executor.run(command)
    headers = headers_of(result)
    if result.spool is None:
        answer = inline_result(result)
        return with_headers(answer, headers) if headers else answer
    try:
        return await stream_json(request, pieces_of(result), headers)
    finally:
        await executor.forget(result)
