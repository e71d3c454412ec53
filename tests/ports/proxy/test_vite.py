"""A development server as developers run it: Vite, with hot reload through the proxy."""

import asyncio
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientWebSocketResponse

from tests.clients.environments import NODE, node_with
from tests.support.serving import Served

pytestmark = [pytest.mark.clients, pytest.mark.timeout(280)]

VITE = "8.3.8"
PAGE = '<body><script type="module" src="/main.js"></script></body>'
SCRIPT = 'import "./style.css"; export const word = "{}"; import.meta.hot?.accept();'
ADDRESS = re.compile(rb"http://127\.0\.0\.1:(\d+)/")
TOKEN = re.compile(r'wsToken = "([^"]+)"')
COLOURS = re.compile(rb"\x1b\[\d+m")


@asynccontextmanager
async def vite(project: Path) -> AsyncIterator[int]:
    """Run Vite for a project while inside; give its port."""
    environment = await asyncio.to_thread(node_with, "vite", VITE)
    modules = environment / "node_modules"
    (project / "node_modules").symlink_to(modules)
    process = await asyncio.create_subprocess_exec(
        *(NODE, modules / "vite" / "bin" / "vite.js", "--host", "127.0.0.1"),
        cwd=project,
        env={**os.environ, "NO_COLOR": "1", "CI": "1"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        assert process.stdout is not None
        output = b""
        while not (found := ADDRESS.search(COLOURS.sub(b"", output))):
            line = await process.stdout.readline()
            assert line, output.decode()
            output += line
        yield int(found[1])
    finally:
        process.kill()
        await process.communicate()


async def test_an_edit_is_told_through_vites_websocket(
    served: Served, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "index.html").write_text(PAGE)
    (project / "style.css").write_text("body { color: red }")
    (project / "main.js").write_text(SCRIPT.format("before"))
    async with vite(project) as port:
        base = f"{served.url}/proxy/{port}"
        page = await text(served, f"{base}/")
        assert '"before"' in await text(served, f"{base}/main.js")
        assert "color: red" in await text(served, f"{base}/style.css?import")
        token = TOKEN.search(await text(served, f"{base}/@vite/client"))
        assert token is not None
        async with served.client.ws_connect(
            f"{base}/?token={token[1]}", protocols=["vite-hmr"]
        ) as socket:
            assert socket.protocol == "vite-hmr"
            assert (await socket.receive_json())["type"] == "connected"
            (project / "main.js").write_text(SCRIPT.format("after"))
            update = await told(socket, "update")
        changed = await text(served, f"{base}/main.js?t=1")

    assert "/@vite/client" in page
    assert [each["path"] for each in update["updates"]] == ["/main.js"]
    assert '"after"' in changed


async def text(served: Served, url: str) -> str:
    """Return what a page is."""
    async with served.client.get(url) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.text()


async def told(socket: ClientWebSocketResponse, kind: str) -> dict[str, Any]:
    """Return the next message of a kind."""
    while True:
        message: dict[str, Any] = await socket.receive_json()
        if message["type"] == kind:
            return message
