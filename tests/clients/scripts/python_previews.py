"""Gets previews with PyPI `daytona`; the argument: sync or async of 0.226.1, first of 0.25.6.

The addresses are fetched with the standard library alone, as anybody's program would.
"""

# mypy: disable-error-code="import-not-found, untyped-decorator"
# ruff: noqa: ASYNC251 - nothing else waits for this loop

import asyncio
import inspect
import json
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import daytona as package
from harness import failure, given, run_without_loop, scenario, tell_all

APP = Path(__file__).with_name("shown.py").read_text()
EXPIRY_LIMIT_S = 10.0
START = (
    'python3 -c "$APP" >/dev/null 2>&1 & while [ ! -e port ]; do sleep 0.02; done;'
    " cat port"
)


async def done(value: Any) -> Any:
    """Return what a call of either client gives."""
    return await value if inspect.isawaitable(value) else value


def fetch(url: str, **headers: str) -> list[Any]:
    """Return the status of an address, and what was answered."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, headers=named)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return [answer.status, json.load(answer)]
    except urllib.error.HTTPError as error:
        with error:
            return [error.code, error.read().decode()]


async def start(daytona: Any) -> tuple[Any, int]:
    """Start the app in the sandbox, once; return the sandbox and the app's port."""
    sandbox = await done(daytona.create())
    ran = await done(sandbox.process.exec("cat port || true"))
    if not ran.result.strip().isdigit():
        ran = await done(sandbox.process.exec(START, env={"APP": APP}))
    return sandbox, int(ran.result)


@scenario
async def link(daytona: Any) -> dict[str, Any]:
    """A link, with the token it comes with, with the key, and with nothing."""
    sandbox, port = await start(daytona)
    preview = await done(sandbox.get_preview_link(port))
    toolbox = await done(sandbox.get_preview_link(2280))
    shown = {"X_Daytona_Preview_Token": preview.token}
    return {
        "port": port,
        "url": preview.url,
        "token is the key": preview.token == given["key"],
        "by token": fetch(f"{preview.url}/a%2Fb?c=%20", **shown),
        "by key": fetch(preview.url, Authorization=f"Bearer {given['key']}"),
        "by nothing": fetch(preview.url),
        "toolbox": fetch(
            f"{toolbox.url}/work-dir", X_Daytona_Preview_Token=toolbox.token
        ),
        "toolbox by another's": fetch(f"{toolbox.url}/work-dir", **shown),
    }


@scenario
async def signed(daytona: Any) -> dict[str, Any]:
    """A signed address: opened, revoked, and one that expires."""
    sandbox, port = await start(daytona)
    if not hasattr(sandbox, "create_signed_preview_url"):
        return {}
    made = await done(sandbox.create_signed_preview_url(port, 3600))
    told = {"port": made.port, "opened": fetch(f"{made.url}/x")[0]}
    await done(sandbox.expire_signed_preview_url(port, made.token))
    told["revoked"] = fetch(f"{made.url}/x")[0]
    short = await done(sandbox.create_signed_preview_url(port, expires_in_seconds=2))
    told["at first"] = fetch(short.url)[0]
    ends = time.monotonic() + EXPIRY_LIMIT_S
    while (status := fetch(short.url)[0]) == 200 and time.monotonic() < ends:
        time.sleep(0.1)
    told["expired"] = status
    told["toolbox"] = await failure(call(sandbox.create_signed_preview_url, 2280))
    return told


@scenario
async def public(daytona: Any) -> dict[str, Any]:
    """Previews that anybody may open."""
    sandbox, port = await start(daytona)
    if not hasattr(sandbox, "set_public"):
        return {}
    preview = await done(sandbox.get_preview_link(port))
    await done(sandbox.set_public(True))
    told = {"public": fetch(preview.url)[0]}
    await done(sandbox.set_public(False))
    return told | {"private": fetch(preview.url)[0]}


async def call(function: Any, *arguments: Any) -> Any:
    """Call either client, when it is waited for."""
    return await done(function(*arguments))


async def asynchronous(config: Any) -> None:
    async with package.AsyncDaytona(config) as daytona:
        await tell_all(daytona)


if __name__ == "__main__":
    config = package.DaytonaConfig(
        api_key=given["key"], api_url=given["api"], target="local"
    )
    if sys.argv[1] == "async":
        asyncio.run(asynchronous(config))
    else:
        run_without_loop(tell_all(package.Daytona(config)))
