"""Code in contexts, against a Python that is started for it."""

import asyncio
import json
import shutil
import statistics
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

from aiohttp import ClientSession, WSMsgType

from tests.bench.measure import (
    MIB,
    Bench,
    Case,
    Row,
    at_least,
    at_most,
    interleaved,
)
from tests.support.agent import Agent, environment

RUNS = 40
WARM_UP_RUNS = 5
CODE = "print(1)"
LONG_BYTES = 64 * MIB
LONG = f"import os\nfor _ in range({LONG_BYTES // 65536}): os.write(1, b'x' * 65536)"


class Client:
    """Asks an agent to run code, as the official clients do: a websocket for each run."""

    def __init__(self, session: ClientSession, agent: Agent) -> None:
        self._session = session
        self._url = f"{agent.url}/process/interpreter"

    async def create(self) -> str:
        """Make a context and return its id."""
        async with self._session.post(f"{self._url}/context", json={}) as answer:
            told = await answer.json()
        name: str = told["id"]
        return name

    async def delete(self, context: str) -> None:
        """End a context."""
        async with self._session.delete(f"{self._url}/context/{context}") as answer:
            assert answer.status == 200

    async def run(self, code: str, context: str) -> int:
        """Run code and return how many characters it printed."""
        asked = json.dumps({"code": code, "contextId": context})
        printed = 0
        async with self._session.ws_connect(f"{self._url}/execute") as socket:
            await socket.send_str(asked)
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    told = json.loads(message.data)
                    if told["type"] == "stdout":
                        printed += len(told["text"])
        assert socket.close_code == 1000
        return printed


@asynccontextmanager
async def talking(agent: Agent) -> AsyncIterator[Client]:
    """Give a client of an agent."""
    async with ClientSession(headers=agent.auth) as session:
        yield Client(session, agent)


async def median_ms(action: Callable[[], Awaitable[object]]) -> float:
    """Return the median time of an action."""
    took_s = []
    for number in range(WARM_UP_RUNS + RUNS):
        started = time.perf_counter()
        await action()
        if number >= WARM_UP_RUNS:
            took_s.append(time.perf_counter() - started)
    return statistics.median(took_s) * 1000


async def new_ms(agent: Agent) -> float:
    """Return the time of a new context with its first run."""
    async with talking(agent) as client:
        made: list[str] = []

        async def each() -> None:
            made.append(await client.create())
            assert await client.run(CODE, made[-1]) == 2

        took_ms = await median_ms(each)
        await asyncio.gather(*map(client.delete, made))
        return took_ms


async def old_ms(agent: Agent) -> float:
    """Return the time of a run in a context that has run before."""
    async with talking(agent) as client:
        context = await client.create()

        async def each() -> None:
            assert await client.run(CODE, context) == 2

        took_ms = await median_ms(each)
        await client.delete(context)
        return took_ms


async def long_mb_s(agent: Agent) -> float:
    """Return the rate of long output, from the worker to the client's memory."""
    async with talking(agent) as client:
        context = await client.create()
        await client.run(CODE, context)
        began = time.perf_counter()
        assert await client.run(LONG, context) == LONG_BYTES
        took_s = time.perf_counter() - began
        await client.delete(context)
        return LONG_BYTES / took_s / 1e6


def python(code: str) -> tuple[float, int]:
    """Run code by `python3 -c`; return its time in seconds, and how much it printed."""
    program = shutil.which("python3") or "python3"
    began = time.perf_counter()
    done = subprocess.run(
        [program, "-c", code],
        stdout=subprocess.PIPE,
        env=environment(),
        check=True,
    )
    return time.perf_counter() - began, len(done.stdout)


def started_ms() -> float:
    """Return the time of `print(1)` in a Python of its own."""
    return statistics.median(python(CODE)[0] for _ in range(RUNS)) * 1000


def piped_mb_s() -> float:
    """Return the rate of the same output through a pipe."""
    took_s, size = python(LONG)
    return size / took_s / 1e6


def interpreter(bench: Bench) -> Iterator[Row]:
    """Measure `print(1)` in new and old contexts, and long output."""
    with bench.agent() as agent:
        new, limit = interleaved(
            bench.rounds, lambda: asyncio.run(new_ms(agent)), started_ms
        )
        yield Row(
            name="make a context and `print(1)` against `python -c`",
            ours=new,
            limit=limit,
            unit="ms",
            goal=at_most(1.5),
        )
        old, limit = interleaved(
            bench.rounds, lambda: asyncio.run(old_ms(agent)), started_ms
        )
        yield Row(
            name="`print(1)` in a context against `python -c`",
            ours=old,
            limit=limit,
            unit="ms",
            goal=at_most(0.3),
        )
        long, limit = interleaved(
            bench.rounds, lambda: asyncio.run(long_mb_s(agent)), piped_mb_s
        )
        yield Row(
            name="64 MiB of output as messages against a pipe",
            ours=long,
            limit=limit,
            unit="MB/s",
            goal=at_least(0.05),
            note="the client, in Python too, is most of it",
        )


CASES = (
    Case(
        name="interpreter",
        about="`print(1)` in new and old contexts, against `python -c`",
        run=interpreter,
    ),
)
