"""Drives PyPI `daytona-toolbox-api-client` 0.226.1, the newest SDK's generated part.

By itself it goes straight to the agent, with bare paths and no control plane, and uses
routes that the SDK on top of it does not.
"""

# mypy: disable-error-code="import-not-found, untyped-decorator, no-any-return"
# ruff: noqa: ASYNC240 - nothing else waits for this loop

from pathlib import Path
from typing import Any

from daytona_toolbox_api_client import (
    ApiClient,
    Configuration,
    CreateSessionRequest,
    ExecuteRequest,
    FileSystemApi,
    InfoApi,
    InitializeRequest,
    ProcessApi,
    ServerApi,
    SessionExecuteRequest,
    SessionSendInputRequest,
)
from harness import failure, given, run_without_loop, scenario, tell_all


async def attempt(function: Any, *arguments: Any) -> dict[str, Any]:
    """Return what the client makes of a call that must fail."""

    async def call() -> None:
        function(*arguments)

    return await failure(call())


@scenario
async def files(client: Any) -> dict[str, Any]:
    fs = FileSystemApi(client)
    uploaded = fs.upload_file("made/ü & up.txt", ("ü & up.txt", b"content"))
    return {
        "uploaded": uploaded.to_dict(),
        "stored": Path(given["work"], "made/ü & up.txt").read_text(),
        "download": bytes(fs.download_file("made/ü & up.txt")).decode(),
        "listed": [each.to_dict() for each in fs.list_files("made")],
        "missing": await attempt(fs.get_file_info, "made/none"),
    }


@scenario
async def rest(client: Any) -> dict[str, Any]:
    ran = ProcessApi(client).execute_command(ExecuteRequest(command="echo bare"))
    started = ServerApi(client).initialize(InitializeRequest(token="t"))
    return {
        "version": InfoApi(client).get_version(),
        "init": started,
        "ran": ran.to_dict(),
    }


@scenario
async def sessions(client: Any) -> dict[str, Any]:
    # Without a version a client is taken for one of the first.
    client.default_headers["X-Daytona-SDK-Version"] = "0.226.1"
    process = ProcessApi(client)
    process.create_session(CreateSessionRequest(session_id="made"))
    made = process.get_session("made").to_dict()

    def run(text: str, **fields: Any) -> Any:
        request = SessionExecuteRequest(command=text, **fields)
        return process.session_execute_command("made", request)

    ran = run("printf out; printf err >&2; (exit 3)")
    started = run("read x; echo got $x", run_async=True)
    process.send_input("made", started.cmd_id, SessionSendInputRequest(data="given"))
    # Its turn comes after.
    run("true")
    told = process.get_session_command("made", started.cmd_id)
    outcome = {
        "made": made,
        "ran": [ran.stdout, ran.stderr, ran.exit_code],
        "started": started.exit_code,
        "logs": process.get_session_command_logs("made", started.cmd_id).to_dict(),
        "codes": [ran.exit_code, told.exit_code],
        "listed": [each.session_id for each in process.list_sessions()],
        "entrypoint": await attempt(process.get_entrypoint_session),
        "entrypoint logs": await attempt(process.get_entrypoint_logs),
    }
    process.delete_session("made")
    return {**outcome, "deleted": await attempt(process.get_session, "made")}


if __name__ == "__main__":
    api = ApiClient(Configuration(host=given["toolbox"]))
    api.default_headers["Authorization"] = f"Bearer {given['key']}"
    run_without_loop(tell_all(api))
