"""The routes of version, health, directories, environment and metrics."""

import asyncio
import os
import pwd
from collections.abc import AsyncIterator
from typing import Annotated, Any

from aiohttp import web
from msgspec import Meta
from msgspec.structs import asdict, replace

from agent import wire
from agent.errors import AgentError
from agent.registry import KEEPER, SETTINGS, WORK_DIR
from agent.system.environment import Environment
from agent.system.history import Samplers
from agent.system.metrics import Meter
from agent.system.models import (
    DetailedMetrics,
    Directory,
    EnvironmentRequest,
    Health,
    InitRequest,
    Message,
    Version,
)
from agent.system.processes import Census, load, network
from agent.system.telemetry.telemetry import Telemetry
from agent.version import VERSION
from agent.web.events import begin_events, encode_event
from agent.web.routes import Routes
from agent.web.server import DISPATCHER, told_of_the_end

routes = Routes("system")

ENVIRONMENT = web.AppKey("environment", Environment)
METER = web.AppKey("meter", Meter)
SAMPLERS = web.AppKey("samplers", Samplers)
TELEMETRY = web.AppKey("telemetry", Telemetry)
CENSUS = web.AppKey("census", Census)

TOP = 10
Top = Annotated[int, Meta(ge=1, le=1000)]
INTERVAL_S = 5
Interval = Annotated[int, Meta(ge=1, le=3600)]

INIT_TOKEN = "init-token"  # noqa: S105 - the name under which the keeper holds it
KEEPER_ANSWER_LIMIT_S = 1.0
"""A keeper that takes longer is told of as not answering."""


async def context(app: web.Application) -> AsyncIterator[None]:
    """Open what the routes work with."""
    app[ENVIRONMENT] = Environment(app[KEEPER])
    app[METER] = Meter()
    telemetry = Telemetry(app[SETTINGS], app[KEEPER], app[DISPATCHER])
    app[TELEMETRY] = telemetry
    app[SAMPLERS] = Samplers(lambda: Meter().measure)
    app[CENSUS] = Census()
    if telemetry.is_wanted and (token := await app[KEEPER].kv_get(INIT_TOKEN)):
        # An earlier api was given it.
        await telemetry.begin(token.decode())
    yield
    await telemetry.aclose()


@routes.get("/version", public=True)
async def version() -> Version:
    """Tell the agent's version; answers as soon as the socket listens."""
    return Version(version=VERSION)


@routes.get("/health", public=True)
async def health(request: web.Request) -> Health:
    """Tell whether both processes of the agent answer."""
    try:
        async with asyncio.timeout(KEEPER_ANSWER_LIMIT_S):
            await request.app[KEEPER].stats()
        keeper = "ok"
    except (AgentError, TimeoutError):
        keeper = "not answering"
    draining = request.app[DISPATCHER].draining
    return Health(
        status="draining" if draining else "ok" if keeper == "ok" else "degraded",
        api="ok",
        keeper=keeper,
    )


@routes.get("/work-dir")
async def work_dir(request: web.Request) -> Directory:
    """Tell the directory that relative paths resolve against."""
    return Directory(dir=request.app[WORK_DIR])


@routes.get("/user-home-dir", errors=(500,))
async def user_home_dir(request: web.Request) -> Directory:
    """Tell the home directory that new processes have."""
    return Directory(dir=await _home(request.app[ENVIRONMENT]))


@routes.get("/project-dir", errors=(500,))
async def project_dir(request: web.Request) -> Directory:
    """Tell the home directory; the first SDKs resolve their relative paths against it."""
    return Directory(dir=await _home(request.app[ENVIRONMENT]))


async def _home(environment: Environment) -> str:
    home = await environment.get("HOME")
    if home:
        return home
    try:
        return (await asyncio.to_thread(pwd.getpwuid, os.getuid())).pw_dir
    except KeyError as error:
        raise AgentError("the user has no home directory") from error


@routes.post("/init", errors=(400,))
async def init(request: web.Request, body: InitRequest | None = None) -> Message:
    """Take the token for telemetry, which begins anew; gates nothing."""
    token = (body and body.token) or ""
    await request.app[TELEMETRY].begin(token)
    await request.app[KEEPER].kv_set(INIT_TOKEN, token.encode())
    return Message(message="initialized")


@routes.post("/env", errors=(400,))
async def update_environment(request: web.Request, body: EnvironmentRequest) -> Message:
    """Change the environment that processes started from now on have."""
    await request.app[ENVIRONMENT].update(
        body.set_ or {}, body.unset or (), body.unset_value_prefix or ""
    )
    # The names alone: values are secrets as often as not.
    request.app[KEEPER].tell(
        "environment.changed", set=list(body.set_ or {}), unset=list(body.unset or ())
    )
    return Message(message="environment updated")


@routes.get("/system/metrics", errors=(400,))
async def metrics(
    request: web.Request, verbose: bool = False, top: Top = TOP
) -> DetailedMetrics:
    """Tell the use of processor, memory and disk against the sandbox's limits.

    `verbose` adds the `top` processes that used the processor most since the request
    before, load, network, and the history: what was measured last, by requests and for
    those who follow the stream.
    """
    found = await asyncio.to_thread(request.app[METER].measure)
    samplers = request.app[SAMPLERS]
    samplers.keep(found)
    plain = DetailedMetrics(**asdict(found))
    if not verbose:
        return plain
    details = await asyncio.to_thread(_details, request.app[CENSUS], top)
    return replace(plain, **details, history=samplers.history())


def _details(census: Census, top: int) -> dict[str, Any]:
    return {"processes": census.top(top), "load": load(), "network": network()}


@routes.get("/system/metrics/stream", errors=(400,))
async def stream_metrics(
    request: web.Request, interval: Interval = INTERVAL_S
) -> web.StreamResponse:
    """Tell `/system/metrics` every `interval` seconds, as server-sent events.

    Each event is `metrics`. Who listens at the same interval shares the measurements;
    nothing is measured when nobody listens.
    """
    gone = asyncio.Event()
    async with request.app[SAMPLERS].listen(interval) as sampler:
        with told_of_the_end(request, gone.set):
            response = await begin_events(request)
            number = 0
            while (found := await sampler.take(gone)) is not None:
                number += 1
                event = encode_event(number, "metrics", wire.encode(found))
                await response.write(event)
            await response.write_eof()
    return response
