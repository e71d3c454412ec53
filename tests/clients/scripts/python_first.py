"""Drives PyPI `daytona` 0.25.6, which reaches the toolbox through the control plane.

It resolves relative paths and `~` itself, against the project dir, and wraps every
command into shell text of its own.
"""

# mypy: disable-error-code="import-not-found, untyped-decorator, no-any-return"
# ruff: noqa: ASYNC240 - nothing else waits for this loop

import hashlib
import os
import time
from pathlib import Path
from typing import Any

from daytona import (
    CreateSandboxFromSnapshotParams,
    Daytona,
    DaytonaConfig,
    FileUpload,
)
from harness import failure, given, run_without_loop, scenario, tell_all

LARGE = bytes(range(256)) * 4096 * 24
UNICODE = "данные № 1/отчёт “A” 100% + ü.txt"
local = Path(given["local"])
home = Path(given["home"])


async def attempt(function: Any, *arguments: Any, **named: Any) -> dict[str, Any]:
    """Return what the client makes of a call that must fail."""
    return await failure(called(function, *arguments, **named))


async def called(function: Any, *arguments: Any, **named: Any) -> object:
    return function(*arguments, **named)


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@scenario
async def create(daytona: Any) -> dict[str, Any]:
    sandbox = daytona.create(
        CreateSandboxFromSnapshotParams(language="python", labels={"team": "blue"})
    )
    return {
        "state": sandbox.state.value,
        "same": daytona.get(sandbox.id).id == sandbox.id,
        "all": [each.id for each in daytona.list()] == [sandbox.id],
        "fitting": len(daytona.list({"team": "blue"})),
        "others": len(daytona.list({"team": "red"})),
        "missing": await attempt(daytona.get, "no-such-sandbox"),
    }


@scenario
async def paths(daytona: Any) -> dict[str, Any]:
    sandbox = daytona.list()[0]
    sandbox.fs.upload_file(b"relative", "in/relative.txt")
    sandbox.fs.upload_file(b"tilde", "~/in/tilde.txt")
    sandbox.fs.upload_file(b"absolute", f"{home}/in/{UNICODE}")
    return {
        "root": sandbox.get_user_root_dir(),
        "contents": {
            str(each.relative_to(home / "in")): each.read_text()
            for each in (home / "in").rglob("*")
            if each.is_file()
        },
        "download": sandbox.fs.download_file("~/in/tilde.txt").decode(),
        "named": sandbox.fs.download_file(f"in/{UNICODE}").decode(),
        "listed": sorted(each.name for each in sandbox.fs.list_files("~/in")),
    }


@scenario
async def files(daytona: Any) -> dict[str, Any]:
    fs = daytona.list()[0].fs
    (local / "large").write_bytes(LARGE)
    fs.upload_file(str(local / "large"), "files/large")
    fs.upload_files(
        [
            FileUpload(source=str(local / "large"), destination="files/many/a b"),
            FileUpload(source=b"second", destination="~/files/many/второй"),
        ]
    )
    fs.download_file("files/large", str(local / "copy"))
    fs.create_folder("files/folder", "750")
    large = fs.get_file_info("files/large")
    missing = await attempt(fs.download_file, "files/none")
    told = {
        "large": sha((home / "files/large").read_bytes()) == sha(LARGE),
        "many": sha((home / "files/many/a b").read_bytes()) == sha(LARGE),
        "second": (home / "files/many/второй").read_text(),
        "copy": sha((local / "copy").read_bytes()) == sha(LARGE),
        "memory": sha(fs.download_file("files/large")) == sha(LARGE),
        "info": [large.name, large.size, large.is_dir],
        "folder": oct((home / "files/folder").stat().st_mode & 0o777),
        "missing": missing,
        "missing to file": await attempt(
            fs.download_file, "files/none", str(local / "none")
        ),
        "missing info": await attempt(fs.get_file_info, "files/none"),
        "directory": await attempt(fs.delete_file, "files/folder"),
    }
    fs.move_files("files/folder", "files/moved")
    fs.set_file_permissions("files/moved", "700")
    told["moved"] = oct((home / "files/moved").stat().st_mode)
    told["taken"] = await attempt(fs.move_files, "files/large", "files/moved")
    fs.upload_file(b"hay\nneedle\n", "files/found.txt")
    told["found"] = [
        [each.file == str(home / "files/found.txt"), each.line, each.content]
        for each in fs.find_files("files", "needle")
    ]
    named = fs.search_files("files", "found.*").files
    told["named"] = named == [str(home / "files/found.txt")]
    (replaced,) = fs.replace_in_files(["files/found.txt"], "needle", "pin")
    told["replaced"] = [replaced.success, (home / "files/found.txt").read_text()]
    fs.delete_file("files/large")
    told["deleted"] = not (home / "files/large").exists()
    return told


@scenario
async def execute(daytona: Any) -> dict[str, Any]:
    process = daytona.list()[0].process
    started = time.monotonic()
    background = process.exec("sleep 60 & echo $!")
    background_s = time.monotonic() - started
    pid = int(background.result)
    lives = Path(f"/proc/{pid}").exists()
    os.kill(pid, 9)
    values = {"A": "x;echo INJECTED", "B": 'it\'s "q" $HOME', "C": "ü"}
    return {
        "printed": process.exec("echo one; echo two >&2").result,
        "code": process.exec("exit 42").exit_code,
        "env": process.exec('printf "[%s]" "$A" "$B" "$C"', env=values).result,
        "cwd": process.exec("pwd").result,
        "other cwd": process.exec("pwd", cwd="/").result,
        "stdin": process.exec("cat; echo after").result,
        "quotes": process.exec("""printf '%s' 'a"b'"c'd" """).result,
        "code run": process.code_run("import sys; print(6 * 7, sys.argv[1:])").result,
        "background": [background.exit_code, background_s < 5, lives],
        "timeout": await attempt(process.exec, "sleep 60", timeout=1),
    }


@scenario
async def life(daytona: Any) -> dict[str, Any]:
    sandbox = daytona.list()[0]
    daytona.stop(sandbox)
    stopped = sandbox.state.value
    daytona.start(sandbox)
    started = sandbox.state.value
    labels = sandbox.set_labels({"team": "green"})
    sandbox.set_autostop_interval(11)
    daytona.delete(sandbox)
    stranger = Daytona(
        DaytonaConfig(api_key="wrong", api_url=given["api"], target="local")
    )
    return {
        "stopped": stopped,
        "started": started,
        "labels": labels,
        "listed": len(daytona.list()),
        "again": daytona.create().state.value,
        "wrong key": await attempt(stranger.list),
    }


if __name__ == "__main__":
    run_without_loop(
        tell_all(
            Daytona(
                DaytonaConfig(
                    api_key=given["key"], api_url=given["api"], target="local"
                )
            )
        )
    )
