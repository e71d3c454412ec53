"""The route of code-run."""

import asyncio
from collections.abc import AsyncIterator

from aiohttp import web

from agent.process.attempt import RunAttempt
from agent.process.coderun.code import Code, CodeRunner
from agent.process.coderun.models import CodeRunRequest, CodeRunResponse
from agent.process.coderun.result import (
    answer_of,
    encoded_answer,
    inline_answer,
    is_light,
    pieces_of,
)
from agent.process.limits import Bounds
from agent.process.result import headers_of
from agent.registry import KEEPER, SETTINGS, WORK_DIR
from agent.web.clients import takes_new_fields
from agent.web.idempotency import KEY_HEADER, answer_once
from agent.web.routes import JSON_TYPE, Routes, with_headers
from agent.web.stream import stream_json

routes = Routes("process")

RUNNER = web.AppKey("code_runner", CodeRunner)


async def context(app: web.Application) -> AsyncIterator[None]:
    """Open what the route works with."""
    settings = app[SETTINGS]
    app[RUNNER] = CodeRunner(
        app[KEEPER], app[WORK_DIR], settings.result_max_bytes, Bounds(settings)
    )
    yield


@routes.post("/process/code-run", errors=(400, 408, 409, 413, 422, 429, 507))
async def code_run(
    request: web.Request, body: CodeRunRequest
) -> CodeRunResponse | web.StreamResponse:
    """Run code in Python, JavaScript or TypeScript to its end.

    The sandbox's own interpreter runs it, with an empty standard input; a missing one is
    exit code 127. Figures that Python code shows with matplotlib are in `artifacts`. Lines
    that begin with `dtn_artifact_k39fd2:` are artifacts too, and not in `result`. All else
    is as with `/process/execute`.
    """
    runner = request.app[RUNNER]
    new_fields = takes_new_fields(request.headers)
    code = Code(
        text=body.code,
        language=body.language,
        arguments=body.argv or (),
        environment=body.envs,
        timeout_s=body.timeout,
        limits=body.limits,
    )
    if KEY_HEADER in request.headers:
        return await answer_once(
            request,
            "/process/code-run",
            RunAttempt(
                lambda job_id: runner.run(code, job_id),
                runner.result,
                runner.forget_job,
                lambda result: answer_of(result, takes_new_fields=new_fields),
            ),
        )
    result = await runner.run(code)
    headers = headers_of(result)
    if is_light(result):
        answer = inline_answer(result, takes_new_fields=new_fields)
        return with_headers(answer, headers) if headers else answer
    if result.spool is None:
        text = await asyncio.to_thread(
            encoded_answer, result, takes_new_fields=new_fields
        )
        return web.Response(body=text, headers={"Content-Type": JSON_TYPE, **headers})
    try:
        pieces = pieces_of(result, takes_new_fields=new_fields)
        return await stream_json(request, pieces, headers)
    finally:
        await runner.forget(result)
