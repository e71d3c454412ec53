"""The route that Prometheus scrapes."""

import asyncio
import os
import time
from collections import Counter

from aiohttp import hdrs, web

from agent.errors import AgentError
from agent.keeper.client import Keeper
from agent.metrics.figures import Figures, ProcessFigures
from agent.registry import KEEPER
from agent.version import VERSION
from agent.web.counts import GAUGES
from agent.web.routes import Routes
from agent.web.server import DISPATCHER
from agent.web.websockets import WEBSOCKETS

routes = Routes("system")

KEPT_KINDS = ("command", "code", "session", "pty", "context", "entrypoint")
"""Jobs of the keeper that clients asked for."""
KEEPER_ANSWER_LIMIT_S = 1.0
"""A keeper that takes longer is left out of the answer."""


@routes.get("/metrics")
async def scrape(request: web.Request) -> web.Response:
    """Tell the agent's own numbers to Prometheus, in its text format or OpenMetrics.

    Requests, durations and bytes by method and route, what runs by kind, memory,
    processor time and descriptors of both processes, dropped bytes, restarts. Counters
    begin anew when the api is started again.
    """
    figures = await _read(request)
    accept = request.headers.get(hdrs.ACCEPT, "")
    body, content_type = await asyncio.to_thread(_show, figures, accept)
    return web.Response(body=body, headers={hdrs.CONTENT_TYPE: content_type})


def _show(figures: Figures, accept: str) -> tuple[bytes, str]:
    # Imported here, because it is 30 ms that only a scraped agent should pay.
    from agent.metrics.exposition import show  # noqa: PLC0415

    return show(figures, accept)


async def _read(request: web.Request) -> Figures:
    app = request.app
    keeper = app[KEEPER]
    began = time.perf_counter()
    await asyncio.sleep(0)
    lag_s = time.perf_counter() - began
    running = dict.fromkeys(KEPT_KINDS, 0)
    numbers: dict[str, int | float] = {}
    try:
        async with asyncio.timeout(KEEPER_ANSWER_LIMIT_S):
            numbers = await keeper.stats()
            running |= await _running(keeper)
    except (AgentError, TimeoutError):
        # An api whose keeper is silent is worth a look, so it still tells the rest.
        pass
    running["follower"] = keeper.followers
    running["websocket"] = len(app[WEBSOCKETS])
    running |= {"language_server": 0, "watch": 0}
    running |= {name: count() for name, count in app[GAUGES].items()}
    dispatcher = app[DISPATCHER]
    tallies = dispatcher.counts.tallies if dispatcher.counts is not None else {}
    return Figures(
        version=VERSION,
        # The tallies go on counting while this is shown; that they are a moment older
        # or younger than each other harms nobody.
        tallies=dict(tallies),
        in_flight=dispatcher.in_flight,
        running=running,
        keeper=numbers,
        processes=await asyncio.to_thread(_processes, numbers),
        lag_s=lag_s,
    )


async def _running(keeper: Keeper) -> Counter[str]:
    jobs = await keeper.list()
    return Counter(
        job.kind for job in jobs if job.exit is None and job.kind in KEPT_KINDS
    )


def _processes(numbers: dict[str, int | float]) -> list[ProcessFigures]:
    # Imported here, because starting the agent must not pay for it.
    import psutil  # noqa: PLC0415

    found: list[ProcessFigures] = []
    for name, pid in (("api", os.getpid()), ("keeper", int(numbers.get("pid", 0)))):
        if not pid:
            continue
        process = psutil.Process(pid)
        times = process.cpu_times()
        # The keeper lets nobody count its descriptors but itself.
        counted = process.num_fds() if name == "api" else int(numbers.get("fds", 0))
        found.append(
            ProcessFigures(
                name=name,
                memory_bytes=process.memory_info().rss,
                cpu_s=times.user + times.system,
                descriptors=counted,
            )
        )
    return found
