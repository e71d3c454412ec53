"""Drives sessions of PyPI `daytona` 0.226.1 or 0.160.0; the argument: sync or async.

The synchronous client, too, follows logs by a coroutine.
"""

# mypy: disable-error-code="import-not-found, untyped-decorator, no-any-return"

import asyncio
import inspect
import sys
from typing import Any

from daytona import AsyncDaytona, Daytona, DaytonaConfig, SessionExecuteRequest
from harness import failure, given, scenario, tell_all

LONG = "i=0; while [ $i -lt 20000 ]; do echo é漢🙂 $i; i=$((i+1)); done; echo bad >&2"


async def done(value: Any) -> Any:
    """Return what a call of either client gives."""
    return await value if inspect.isawaitable(value) else value


async def attempt(function: Any, *arguments: Any) -> dict[str, Any]:
    """Return what the client makes of a call that must fail."""

    async def call() -> None:
        await done(function(*arguments))

    return await failure(call())


async def process_of(daytona: Any) -> Any:
    sandbox = await done(daytona.create())
    return sandbox.process


async def run(process: Any, session: str, command: str, **fields: Any) -> Any:
    request = SessionExecuteRequest(command=command, **fields)
    return await done(process.execute_session_command(session, request))


class Heard:
    """The two callbacks of a follower, and what they were given."""

    def __init__(self) -> None:
        self.out: list[str] = []
        self.err: list[str] = []

    async def follow(self, process: Any, session: str, command: str) -> "Heard":
        """Follow to the end."""
        await process.get_session_command_logs_async(
            session, command, self.out.append, self.err.append
        )
        return self

    @property
    def texts(self) -> list[str]:
        """What was heard of each output."""
        return ["".join(self.out), "".join(self.err)]


@scenario
async def life(daytona: Any) -> dict[str, Any]:
    process = await process_of(daytona)
    await done(process.create_session("a ü/b"))
    made = await done(process.get_session("a ü/b"))
    first = await run(process, "a ü/b", "cd /; export A='x y'")
    second = await run(process, "a ü/b", 'pwd; printf %s "$A"; (exit 7)')
    told = await done(process.get_session("a ü/b"))
    listed = await done(process.list_sessions())
    command = await done(process.get_session_command("a ü/b", second.cmd_id))
    taken = await attempt(process.create_session, "a ü/b")
    await done(process.delete_session("a ü/b"))
    return {
        "made": [made.session_id, made.commands],
        "codes": [first.exit_code, second.exit_code],
        "stdout": second.stdout,
        "commands": [[each.command, each.exit_code] for each in told.commands],
        "listed": [each.session_id for each in listed],
        "command": [command.id == second.cmd_id, command.exit_code],
        "taken": taken,
        "deleted": await attempt(process.get_session, "a ü/b"),
        "after": [each.session_id for each in await done(process.list_sessions())],
    }


@scenario
async def outputs(daytona: Any) -> dict[str, Any]:
    process = await process_of(daytona)
    await done(process.create_session("outputs"))
    both = "printf 'out é'; sleep 0.05; printf 'err 漢' >&2"
    ran = await run(process, "outputs", both)
    logs = await done(process.get_session_command_logs("outputs", ran.cmd_id))
    heard = await Heard().follow(process, "outputs", ran.cmd_id)
    quiet = await run(process, "outputs", "true")
    return {
        "ran": [ran.stdout, ran.stderr, ran.exit_code],
        "combined": ran.output,
        "logs": [logs.stdout, logs.stderr],
        "heard": heard.texts,
        "quiet": [quiet.stdout, quiet.stderr, quiet.exit_code],
    }


@scenario
async def following(daytona: Any) -> dict[str, Any]:
    process = await process_of(daytona)
    await done(process.create_session("following"))
    started = await run(process, "following", LONG, run_async=True)
    heard = await Heard().follow(process, "following", started.cmd_id)
    code = await done(process.get_session_command("following", started.cmd_id))
    slow = await run(process, "following", "echo a; sleep 0.4; echo b", run_async=True)
    pieces = (await Heard().follow(process, "following", slow.cmd_id)).out
    return {
        "started": [started.exit_code, started.stdout or "", bool(started.cmd_id)],
        "whole": heard.texts[0] == "".join(f"é漢🙂 {i}\n" for i in range(20000)),
        "err": heard.texts[1],
        "code": code.exit_code,
        "pieces": pieces,
    }


@scenario
async def typing(daytona: Any) -> dict[str, Any]:
    process = await process_of(daytona)
    await done(process.create_session("typing"))
    started = await run(process, "typing", "read a; echo got $a; cat", run_async=True)
    send = process.send_session_command_input
    await done(send("typing", started.cmd_id, "first"))
    await done(send("typing", started.cmd_id, "second\n"))
    following = asyncio.create_task(Heard().follow(process, "typing", started.cmd_id))
    found = ""
    while found.count("second\n") < 2 or "got first\n" not in found:
        await asyncio.sleep(0.02)
        log = await done(process.get_session_command_logs("typing", started.cmd_id))
        found = log.stdout
    await done(process.delete_session("typing"))
    return {"log": sorted(found.split()), "heard": (await following).texts[0] == found}


@scenario
async def entrypoint(daytona: Any) -> dict[str, Any]:
    process = await process_of(daytona)
    session = await done(process.get_entrypoint_session())
    heard = Heard()
    await process.get_entrypoint_logs_async(heard.out.append, heard.err.append)
    logs = await done(process.get_entrypoint_logs())
    return {
        "commands": [[each.id, each.command] for each in session.commands],
        "logs": [logs.stdout, logs.stderr],
        "heard": heard.texts,
    }


@scenario
async def failures(daytona: Any) -> dict[str, Any]:
    process = await process_of(daytona)
    await done(process.create_session("failing"))
    ended = await run(process, "failing", "read x; (exit 4)", run_async=True)
    await done(process.send_session_command_input("failing", ended.cmd_id, ""))
    await Heard().follow(process, "failing", ended.cmd_id)
    late = await attempt(
        process.send_session_command_input, "failing", ended.cmd_id, "late"
    )
    last = await run(process, "failing", "exit 5")
    request = SessionExecuteRequest(command="echo never")
    return {
        "late": late,
        "last": last.exit_code,
        "dead": await attempt(process.execute_session_command, "failing", request),
        "unknown": await attempt(process.execute_session_command, "none", request),
        "unknown command": await attempt(
            process.get_session_command, "failing", "none"
        ),
        "unknown follow": await failure(Heard().follow(process, "failing", "none")),
        "blank": await attempt(
            process.execute_session_command,
            "failing",
            SessionExecuteRequest(command=" "),
        ),
        "reserved": await attempt(process.create_session, "entrypoint"),
    }


async def asynchronous(config: Any) -> None:
    async with AsyncDaytona(config) as daytona:
        await tell_all(daytona)


if __name__ == "__main__":
    config = DaytonaConfig(api_key=given["key"], api_url=given["api"], target="local")
    if sys.argv[1] == "async":
        asyncio.run(asynchronous(config))
    else:
        asyncio.run(tell_all(Daytona(config)))
