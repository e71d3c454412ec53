"""Drives PyPI `daytona` 0.226.1; the argument says which of its clients: sync or async.

The scenarios are written once. Around the synchronous client nothing in them ever waits,
so they run without an event loop, as a caller's code would.
"""

# mypy: disable-error-code="import-not-found, untyped-decorator, no-any-return"
# ruff: noqa: ASYNC212, ASYNC240 - nothing else waits for this loop

import asyncio
import hashlib
import inspect
import io
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
from daytona import (
    AsyncDaytona,
    CreateSandboxFromImageParams,
    CreateSandboxFromSnapshotParams,
    Daytona,
    DaytonaConfig,
    FileDownloadRequest,
    FileUpload,
    ListSandboxesQuery,
    SandboxState,
)
from harness import failure, given, run_without_loop, scenario, tell_all

LARGE = bytes(range(256)) * 4096 * 24
"""24 MiB: more than any buffer on the way."""
SEARCHED = {
    "a.txt": "hay\na needle, a needle\n",
    "sub/b.txt": "needle",
    "c.bin": "\0needle",
}
UNICODE = "данные № 1/отчёт “A” 100% + ü.txt"
local = Path(given["local"])


async def done(value: Any) -> Any:
    """Return what a call of either client gives."""
    return await value if inspect.isawaitable(value) else value


async def every(values: Iterator[Any] | AsyncIterator[Any]) -> list[Any]:
    """Return all that an iterator of either client gives."""
    if isinstance(values, AsyncIterator):
        return [each async for each in values]
    return list(values)


async def attempt(function: Any, *arguments: Any, **named: Any) -> dict[str, Any]:
    """Return what the client makes of a call that must fail."""

    async def call() -> None:
        # Iterators fail when they are read.
        result = await done(function(*arguments, **named))
        if hasattr(result, "__next__") or hasattr(result, "__anext__"):
            await every(result)

    return await failure(call())


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@scenario
async def create(daytona: Any) -> dict[str, Any]:
    sandbox = await done(
        daytona.create(
            CreateSandboxFromSnapshotParams(
                name="workshop",
                labels={"team": "blue"},
                env_vars={"GIVEN_AT_CREATE": "a b;$c"},
                auto_stop_interval=7,
            )
        )
    )
    printed = await done(sandbox.process.exec('printf %s "$GIVEN_AT_CREATE"'))
    return {
        "id": sandbox.id,
        "name": sandbox.name,
        "state": sandbox.state,
        "labels": sandbox.labels,
        "toolbox": sandbox.toolbox_proxy_url,
        "auto_stop": sandbox.auto_stop_interval,
        "printed": printed.result,
    }


@scenario
async def find(daytona: Any) -> dict[str, Any]:
    fits = ListSandboxesQuery(
        labels={"team": "blue"}, states=[SandboxState.STOPPED, SandboxState.STARTED]
    )
    other = ListSandboxesQuery(labels={"team": "red"})
    by_name = await done(daytona.get("workshop"))
    return {
        "by name": by_name.id,
        "by id": (await done(daytona.get(by_name.id))).id,
        "all": [each.id for each in await every(daytona.list())],
        "fitting": [each.id for each in await every(daytona.list(fits))],
        "others": [each.id for each in await every(daytona.list(other))],
        "missing": await attempt(daytona.get, "no-such-sandbox"),
    }


@scenario
async def job(daytona: Any) -> dict[str, Any]:
    """The main job: upload a program and its data, run it, list, take the result."""
    sandbox = await done(daytona.get("workshop"))
    fs = sandbox.fs
    await done(fs.create_folder("job", "755"))
    numbers = "\n".join(map(str, range(100_000)))
    (local / "numbers.txt").write_text(numbers)
    await done(fs.upload_file(str(local / "numbers.txt"), "job/numbers.txt"))
    program = (
        "import sys\n"
        "total = sum(map(int, open('numbers.txt')))\n"
        "open('result.txt', 'w').write(str(total))\n"
        "print('wrote', total)\n"
    )
    await done(fs.upload_file(program.encode(), "job/add.py"))
    ran = await done(sandbox.process.exec("python3 add.py", cwd="job"))
    entries = await done(fs.list_files("job"))
    result = await done(fs.download_file("job/result.txt"))
    return {
        "exit code": ran.exit_code,
        "printed": ran.result,
        "entries": [each.name for each in entries],
        "result": result.decode(),
    }


@scenario
async def upload(daytona: Any) -> dict[str, Any]:
    fs = (await done(daytona.get("workshop"))).fs
    base = given["work"]
    (local / "large").write_bytes(LARGE)
    await done(fs.upload_file(str(local / "large"), f"{base}/up/large"))
    await done(fs.upload_file(b"named", f"{base}/up/{UNICODE}"))
    await done(fs.upload_file(b"", f"{base}/up/empty"))
    await done(
        fs.upload_files(
            [
                FileUpload(source=str(local / "large"), destination="up/many/a b"),
                FileUpload(source=b"second", destination=f'{base}/up/many/"q" & ü'),
                FileUpload(source=b"third", destination="up/many/третий"),
            ]
        )
    )
    sent: list[int] = []
    await done(
        fs.upload_file_stream(
            io.BytesIO(LARGE),
            "up/streamed",
            on_progress=lambda progress: sent.append(progress.bytes_sent),
        )
    )
    return {
        "uploaded": {
            str(path.relative_to(f"{base}/up")): sha(path.read_bytes())
            for path in sorted(Path(base, "up").rglob("*"))
            if path.is_file()
        },
        "expected": {
            "large": sha(LARGE),
            UNICODE: sha(b"named"),
            "empty": sha(b""),
            "many/a b": sha(LARGE),
            'many/"q" & ü': sha(b"second"),
            "many/третий": sha(b"third"),
            "streamed": sha(LARGE),
        },
        "progress": [sent == sorted(sent), sent[-1] == len(LARGE)],
        "partly": await attempt(
            fs.upload_files,
            [
                FileUpload(source=b"bad", destination="/dev/null/bad"),
                FileUpload(source=b"good", destination="good"),
            ],
        ),
        "the rest": Path(base, "good").read_text(),
    }


@scenario
async def download(daytona: Any) -> dict[str, Any]:
    fs = (await done(daytona.get("workshop"))).fs
    source = Path(given["work"], "down")
    (source / UNICODE).parent.mkdir(parents=True)
    (source / "large").write_bytes(LARGE)
    (source / UNICODE).write_bytes(b"named")
    (source / "empty").touch()
    await done(fs.download_file("down/large", str(local / "copy")))
    several = await done(
        fs.download_files(
            [
                FileDownloadRequest(source="down/large"),
                FileDownloadRequest(
                    source=f"down/{UNICODE}", destination=str(local / "named")
                ),
                FileDownloadRequest(source="down/missing"),
                FileDownloadRequest(source="down"),
            ]
        )
    )
    progress: list[tuple[int, int | None]] = []
    stream = await done(
        fs.download_file_stream(
            "down/large",
            on_progress=lambda told: progress.append(
                (told.bytes_received, told.total_bytes)
            ),
        )
    )
    return {
        "to memory": sha(await done(fs.download_file("down/large"))) == sha(LARGE),
        "to file": sha((local / "copy").read_bytes()) == sha(LARGE),
        "empty": (await done(fs.download_file("down/empty"))).decode(),
        "named": (await done(fs.download_file(f"down/{UNICODE}"))).decode(),
        "streamed": sha(b"".join(await every(stream))) == sha(LARGE),
        "progress ends": list(progress[-1]) == [len(LARGE), len(LARGE)],
        "bulk in memory": sha(several[0].result) == sha(LARGE),
        "bulk to file": (local / "named").read_text(),
        "bulk failures": [
            [each.error_details.status_code, each.error_details.code]
            for each in several[2:]
        ],
        "missing": await attempt(fs.download_file, "down/missing"),
        "missing stream": await attempt(fs.download_file_stream, "down/missing"),
    }


@scenario
async def searching(daytona: Any) -> dict[str, Any]:
    fs = (await done(daytona.get("workshop"))).fs
    for name, text in SEARCHED.items():
        await done(fs.upload_file(text.encode(), f"search/{name}"))
    found = await done(fs.find_files("search", "needle"))
    named = await done(fs.search_files("search", "*.txt"))
    files = ["search/a.txt", "search/sub/b.txt", "search/none"]
    replaced = await done(fs.replace_in_files(files, "needle", "pin"))
    return {
        "found": [[each.file, each.line, each.content] for each in found],
        "named": named.files,
        "replaced": [[each.file, each.success, bool(each.error)] for each in replaced],
        "after": Path(given["work"], "search/a.txt").read_text(),
        "missing": await attempt(fs.find_files, "nowhere", "needle"),
        "missing names": await attempt(fs.search_files, "nowhere", "*"),
    }


@scenario
async def entries(daytona: Any) -> dict[str, Any]:
    fs = (await done(daytona.get("workshop"))).fs
    await done(fs.create_folder("tree/inner/deep", "750"))
    await done(fs.upload_file(b"12345", "tree/leaf"))
    await done(fs.upload_file(b"", "tree/inner/.hidden"))
    shallow = await done(fs.list_files("tree"))
    deep = await done(fs.list_files("tree", depth=3))
    leaf = await done(fs.get_file_info("tree/leaf"))
    inner = await done(fs.get_file_info("tree/inner"))
    await done(fs.move_files("tree/inner/deep", "tree/moved"))
    taken = await attempt(fs.move_files, "tree/leaf", "tree/moved")
    await done(fs.set_file_permissions("tree/moved", mode="1711"))
    moved = Path(given["work"], "tree/moved").stat()
    refused = await attempt(fs.delete_file, "tree/inner")
    await done(fs.delete_file("tree/leaf"))
    after_file = [each.name for each in await done(fs.list_files("tree"))]
    await done(fs.delete_file("tree", recursive=True))
    return {
        "shallow": [[each.name, each.is_dir] for each in shallow],
        "deep": [each.path for each in deep],
        "leaf": [leaf.name, leaf.size, leaf.is_dir, leaf.owner == str(os.getuid())],
        "inner": [inner.is_dir, inner.permissions, inner.mode],
        "moved": oct(moved.st_mode),
        "taken": taken,
        "move of none": await attempt(fs.move_files, "tree/none", "other"),
        "mode of none": await attempt(fs.set_file_permissions, "none", mode="600"),
        "bad mode": await attempt(fs.set_file_permissions, ".", mode="rwx"),
        "refused": refused,
        "after file": after_file,
        "after tree": Path(given["work"], "tree").exists(),
        "missing": await attempt(fs.get_file_info, "tree/leaf"),
        "denied": await attempt(fs.delete_file, "/proc/version"),
        "not a directory": await attempt(fs.list_files, "/proc/version"),
    }


@scenario
async def execute(daytona: Any) -> dict[str, Any]:
    process = (await done(daytona.get("workshop"))).process
    started = time.monotonic()
    background = await done(process.exec("sleep 60 & echo $!"))
    background_s = time.monotonic() - started
    pid = int(background.result)
    lives = Path(f"/proc/{pid}").exists()
    os.kill(pid, 9)
    started = time.monotonic()
    timeout = await attempt(process.exec, "sleep 60", timeout=1)
    return {
        "order": (await done(process.exec("printf a; printf b >&2; printf c"))).result,
        "codes": [
            (await done(process.exec(f"exit {code}"))).exit_code
            for code in (0, 1, 42, 255)
        ],
        "env": (
            await done(
                process.exec(
                    'printf \'%s|\' "$A" "$B"', env={"A": "x; echo $HOME", "B": "ü'\""}
                )
            )
        ).result,
        "cwd": (await done(process.exec("pwd", cwd="/"))).result,
        "default cwd": (await done(process.exec("pwd"))).result,
        "missing cwd": (await done(process.exec("pwd", cwd="/no/such"))).exit_code,
        "stdin": (await done(process.exec("cat; echo after"))).result,
        "large": len((await done(process.exec("yes | head -c 5000000"))).result),
        "background": [background.exit_code, background_s < 5, lives],
        "timeout": timeout,
        "timeout in time": time.monotonic() - started < 6,
        "blank": await attempt(process.exec, "   "),
    }


@scenario
async def parallel(daytona: Any) -> dict[str, Any]:
    process = (await done(daytona.get("workshop"))).process
    commands = [f"sleep 0.2; exit {code}" for code in range(32)]
    if isinstance(daytona, AsyncDaytona):
        ran = await asyncio.gather(*map(process.exec, commands))
    else:
        with ThreadPoolExecutor(32) as threads:
            ran = list(threads.map(process.exec, commands))
    return {"codes": [each.exit_code for each in ran]}


@scenario
async def environment(daytona: Any) -> dict[str, Any]:
    sandbox = await done(daytona.get("workshop"))
    show = 'printf %s "${PUSHED-unset}"'
    await done(sandbox.update_env({"PUSHED": "a=b c"}))
    pushed = (await done(sandbox.process.exec(show))).result
    await done(sandbox.update_env({}, unset=["PUSHED"]))
    metrics = await done(sandbox.get_metrics_latest())
    return {
        "pushed": pushed,
        "removed": (await done(sandbox.process.exec(show))).result,
        "work dir": await done(sandbox.get_work_dir()),
        "home": await done(sandbox.get_user_home_dir()),
        "metrics": [
            metrics.cpu_count >= 1,
            metrics.cpu_used_pct >= 0,
            metrics.mem_total >= metrics.mem_used > 0,
            metrics.disk_total >= metrics.disk_used > 0,
        ],
    }


@scenario
async def signed(daytona: Any) -> dict[str, Any]:
    sandbox = await done(daytona.get("workshop"))
    await done(sandbox.fs.upload_file(b"signed content", "signed & ü.txt"))
    url = await done(sandbox.download_url("signed & ü.txt"))
    for_ever = await done(sandbox.download_url("signed & ü.txt", ttl_seconds=0))
    to = await done(sandbox.upload_url("by-url.txt"))
    with httpx.Client(trust_env=False) as http:
        return {
            "get": http.get(url).text,
            "head": http.head(for_ever).headers["Content-Length"],
            "multipart": http.post(to, files={"file": ("x", b"first")}).json()["path"],
            "raw": [
                http.post(to, content=b"second").status_code,
                (await done(sandbox.fs.download_file("by-url.txt"))).decode(),
            ],
            "forged": [
                http.get(url[:-1] + ("A" if url[-1] != "A" else "B")).status_code,
                http.get(url.replace("signed", "other")).status_code,
                http.post(url.replace("download", "upload-v2")).status_code,
                http.get(url.partition("?")[0], params={"path": "x"}).status_code,
            ],
        }


@scenario
async def refused(daytona: Any) -> dict[str, Any]:
    sandbox = await done(daytona.get("workshop"))
    stranger = type(daytona)(
        DaytonaConfig(api_key="wrong", api_url=given["api"], target="local")
    )
    told = {
        "wrong key": await attempt(stranger.get, "workshop"),
        "history": await attempt(sandbox.get_metrics),
        "snapshot": await attempt(sandbox.create_snapshot, "s"),
        "fork": await attempt(sandbox.fork),
        "image": await attempt(
            daytona.create, CreateSandboxFromImageParams(image="debian:12.9")
        ),
    }
    if hasattr(stranger, "close"):
        await done(stranger.close())
    return told


@scenario
async def life(daytona: Any) -> dict[str, Any]:
    sandbox = await done(daytona.get("workshop"))
    await done(sandbox.stop())
    stopped = sandbox.state
    await done(sandbox.start())
    started = sandbox.state
    labels = await done(sandbox.set_labels({"team": "green"}))
    await done(sandbox.set_autostop_interval(11))
    await done(sandbox.refresh_activity())
    ssh = await done(sandbox.create_ssh_access(5))
    holds = (await done(sandbox.validate_ssh_access(ssh.token))).valid
    await done(sandbox.revoke_ssh_access(ssh.token))
    gone = (await done(sandbox.validate_ssh_access(ssh.token))).valid
    await done(sandbox.refresh_data())
    told = {
        "stopped": stopped,
        "started": started,
        "labels": labels,
        "auto stop": sandbox.auto_stop_interval,
        "ssh": [holds, gone],
    }
    await done(daytona.delete(sandbox, wait=True))
    told["deleted"] = sandbox.state
    told["after"] = (await done(daytona.get(sandbox.id))).state
    told["listed"] = [each.id for each in await every(daytona.list())]
    told["start"] = await attempt(sandbox.start)
    again = await done(daytona.create())
    show = 'printf %s "${GIVEN_AT_CREATE-unset}"'
    told["again"] = [again.state, again.id == sandbox.id, again.labels]
    told["environment"] = (await done(again.process.exec(show))).result
    return told


async def asynchronous(config: Any) -> None:
    async with AsyncDaytona(config) as daytona:
        await tell_all(daytona)


if __name__ == "__main__":
    config = DaytonaConfig(api_key=given["key"], api_url=given["api"], target="local")
    if sys.argv[1] == "async":
        asyncio.run(asynchronous(config))
    else:
        run_without_loop(tell_all(Daytona(config)))
