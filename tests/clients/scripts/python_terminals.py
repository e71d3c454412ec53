"""Opens terminals with PyPI `daytona` 0.226.1; the argument says which client: sync or async."""

# mypy: disable-error-code="import-not-found, untyped-decorator, no-any-return"

import asyncio
import inspect
import sys
from typing import Any

from daytona import AsyncDaytona, Daytona, DaytonaConfig
from daytona.common.pty import PtySize
from harness import failure, given, run_without_loop, scenario, tell_all

IS_ASYNC = sys.argv[1] == "async"
LIMIT_S = 20.0


async def done(value: Any) -> Any:
    """Return what a call of either client gives."""
    return await value if inspect.isawaitable(value) else value


class Terminal:
    """A handle of either client, and what came by it."""

    def __init__(self) -> None:
        self.handle: Any = None
        self.output = bytearray()
        self.came = asyncio.Event()

    def take(self, data: bytes) -> None:
        """Take output, for the asynchronous client."""
        self.output += data
        self.came.set()

    @classmethod
    async def create(cls, sandbox: Any, name: str, **options: Any) -> "Terminal":
        """Open a new one."""
        terminal = cls()
        if IS_ASYNC:
            options["on_data"] = terminal.take
        call = sandbox.process.create_pty_session(id=name, **options)
        terminal.handle = await done(call)
        return terminal

    @classmethod
    async def connect(cls, sandbox: Any, name: str) -> "Terminal":
        """Connect to one that is there."""
        terminal = cls()
        more = {"on_data": terminal.take} if IS_ASYNC else {}
        call = sandbox.process.connect_pty_session(name, **more)
        terminal.handle = await done(call)
        return terminal

    async def type(self, text: str) -> None:
        """Send input."""
        await done(self.handle.send_input(text))

    async def until(self, wanted: bytes) -> None:
        """Take output until these bytes are in it."""
        if IS_ASYNC:
            async with asyncio.timeout(LIMIT_S):
                while wanted not in self.output:
                    self.came.clear()
                    await self.came.wait()
            return
        for data in self.handle:
            self.output += data
            if wanted in self.output:
                return

    async def end(self) -> list[Any]:
        """Take everything up to the end; return exit code and error."""
        if IS_ASYNC:
            async with asyncio.timeout(LIMIT_S):
                result = await self.handle.wait()
        else:
            result = self.handle.wait(on_data=self.output.extend, timeout=LIMIT_S)
        return [result.exit_code, result.error]


@scenario
async def session(sandbox: Any) -> dict[str, Any]:
    terminal = await Terminal.create(
        sandbox,
        "main",
        cwd="/usr",
        envs={"FOO": "a b;ü"},
        pty_size=PtySize(rows=30, cols=100),
    )
    await terminal.type("stty size; echo \"$FOO\" $PWD fi''rst\n")
    await terminal.until(b"first")
    info = await done(sandbox.process.get_pty_session_info("main"))
    listed = await done(sandbox.process.list_pty_sessions())
    taken = await failure(Terminal.create(sandbox, "main"))
    await done(terminal.handle.resize(PtySize(rows=44, cols=132)))
    await terminal.type("stty size; echo se''cond; exit 7\n")
    ended = await terminal.end()
    text = terminal.output.decode()
    return {
        "text": [each in text for each in ("30 100", "a b;ü /usr first", "44 132")],
        "info": [info.cols, info.rows, info.cwd, info.active, info.envs["FOO"]],
        "listed": [each.id for each in listed],
        "taken": taken,
        "ended": ended,
        "after": await failure(info_of(sandbox, "main")),
    }


async def info_of(sandbox: Any, name: str) -> Any:
    return await done(sandbox.process.get_pty_session_info(name))


@scenario
async def ends(sandbox: Any) -> dict[str, Any]:
    told = {}
    for name, line in (
        ("well", "exit 0\n"),
        ("badly", "exit 3\n"),
        ("interrupted", "exit 130\n"),
        ("killed itself", "kill -9 $$\n"),
    ):
        terminal = await Terminal.create(sandbox, name)
        await terminal.type(line)
        told[name] = await terminal.end()
    terminal = await Terminal.create(sandbox, "killed")
    await done(terminal.handle.kill())
    told["killed"] = await terminal.end()
    return told


@scenario
async def volume(sandbox: Any) -> dict[str, Any]:
    terminal = await Terminal.create(sandbox, "volume")
    await terminal.type("stty -opost -echo; seq 1 400000; exit\n")
    ended = await terminal.end()
    whole = b"".join(b"%d\n" % number for number in range(1, 400001))
    return {"ended": ended, "whole": whole in terminal.output}


@scenario
async def again(sandbox: Any) -> dict[str, Any]:
    terminal = await Terminal.create(sandbox, "again")
    await terminal.type("sleep 0.3; echo mis''sed\n")
    await done(terminal.handle.disconnect())
    terminal = await Terminal.connect(sandbox, "again")
    await terminal.until(b"missed")
    await terminal.type("exit\n")
    ended = await terminal.end()
    unknown = await failure(Terminal.connect(sandbox, "nobody"))
    return {"ended": ended, "unknown": unknown}


async def asynchronous(config: Any) -> None:
    async with AsyncDaytona(config) as daytona:
        await tell_all(await daytona.create())


if __name__ == "__main__":
    config = DaytonaConfig(api_key=given["key"], api_url=given["api"], target="local")
    if IS_ASYNC:
        asyncio.run(asynchronous(config))
    else:
        run_without_loop(tell_all(Daytona(config).create()))
