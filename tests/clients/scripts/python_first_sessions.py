"""Drives sessions of PyPI `daytona` 0.25.6, the first client: one text, no input."""

# mypy: disable-error-code="import-not-found, untyped-decorator, no-any-return"

import asyncio
from typing import Any

from daytona import Daytona, DaytonaConfig, SessionExecuteRequest
from harness import failure, given, scenario, tell_all


async def attempt(function: Any, *arguments: Any) -> dict[str, Any]:
    """Return what the client makes of a call that must fail."""

    async def call() -> None:
        function(*arguments)

    return await failure(call())


def run(process: Any, session: str, command: str, **fields: Any) -> Any:
    request = SessionExecuteRequest(command=command, **fields)
    return process.execute_session_command(session, request)


@scenario
async def life(daytona: Any) -> dict[str, Any]:
    process = daytona.create().process
    process.create_session("first")
    where = run(process, "first", "pwd; cd /; A=kept")
    kept = run(process, "first", "pwd; echo $A; (exit 7)")
    told = process.get_session("first")
    command = process.get_session_command("first", kept.cmd_id)
    listed = process.list_sessions()
    process.delete_session("first")
    return {
        "where": where.output,
        "kept": [kept.output, kept.exit_code],
        "commands": [[each.command, each.exit_code] for each in told.commands],
        "command": command.exit_code,
        "listed": [each.session_id for each in listed],
        "deleted": await attempt(process.get_session, "first"),
    }


@scenario
async def logs(daytona: Any) -> dict[str, Any]:
    process = daytona.create().process
    process.create_session("logs")
    ran = run(process, "logs", "printf out; sleep 0.05; printf err >&2")
    text = "for i in $(seq 3000); do echo é漢🙂 $i; done; sleep 0.3; echo end >&2"
    started = run(process, "logs", text, var_async=True)
    heard: list[str] = []
    await process.get_session_command_logs_async("logs", started.cmd_id, heard.append)
    wanted = "".join(f"é漢🙂 {i}\n" for i in range(1, 3001)) + "end\n"
    return {
        "ran": ran.output,
        "log": process.get_session_command_logs("logs", ran.cmd_id),
        "heard": "".join(heard) == wanted,
        "again": process.get_session_command_logs("logs", started.cmd_id) == wanted,
        "code": process.get_session_command("logs", started.cmd_id).exit_code,
        "missing": await attempt(process.get_session_command_logs, "logs", "none"),
    }


if __name__ == "__main__":
    config = DaytonaConfig(api_key=given["key"], api_url=given["api"], target="local")
    asyncio.run(tell_all(Daytona(config)))
