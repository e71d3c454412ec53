"""A real browser."""

import asyncio
import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import aiohttp

from tests.support.agent import environment

CHROMIUM = [
    "chromium",
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
    # The viewer shows no more of a long page than what fits.
    "--window-size=1280,30000",
]
DEVTOOLS = "DevTools listening on "
LOOK = """new Promise(found => {
  const look = () => {
    // The viewer puts invisible places for line breaks into paths.
    const text = document.documentElement.innerText.replaceAll("\\u200b", "")
    if (text.includes(%s)) found(text); else setTimeout(look, 50)
  }
  look()
})"""


@contextlib.contextmanager
def browser_at(
    url: str, profile: Path, stderr: int = subprocess.DEVNULL
) -> Iterator["subprocess.Popen[str]"]:
    """Show a page in a browser while inside."""
    with subprocess.Popen(
        [*CHROMIUM, f"--user-data-dir={profile}", url],
        env=environment(HOME=str(profile)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        text=True,
    ) as browser:
        try:
            yield browser
        finally:
            browser.terminate()


def text_of(url: str, profile: Path, wanted: str) -> str:
    """Return what a page shows, scripts run, once it shows what is wanted."""
    with browser_at("about:blank", profile, subprocess.PIPE) as browser:
        assert browser.stderr is not None
        return asyncio.run(_text(_devtools(browser.stderr), url, wanted))


def _devtools(lines: IO[str]) -> str:
    return next(
        line.partition(DEVTOOLS)[2].strip() for line in lines if DEVTOOLS in line
    )


async def _text(devtools: str, url: str, wanted: str) -> str:
    async with (
        aiohttp.ClientSession() as client,
        client.ws_connect(devtools, max_msg_size=0) as socket,
    ):
        page = _Page(socket)
        target = await page.ask("Target.createTarget", url="about:blank")
        attached = await page.ask(
            "Target.attachToTarget", targetId=target["targetId"], flatten=True
        )
        page.session = attached["sessionId"]
        await page.ask("Page.enable")
        await page.ask("Page.navigate", url=url)
        await page.until("Page.loadEventFired")
        answer = await page.ask(
            "Runtime.evaluate", expression=LOOK % json.dumps(wanted), awaitPromise=True
        )
        return str(answer["result"]["value"])


class _Page:
    """Speaks the Chrome DevTools protocol with one page."""

    def __init__(self, socket: "aiohttp.ClientWebSocketResponse[Any]") -> None:
        self._socket = socket
        self._asked = 0
        self._events: list[str] = []
        self.session = ""

    async def ask(self, method: str, **words: object) -> Any:
        """Give one command; return its result."""
        self._asked += 1
        about = {"sessionId": self.session} if self.session else {}
        message = {"id": self._asked, "method": method, "params": words, **about}
        await self._socket.send_json(message)
        while (told := await self._told()).get("id") != self._asked:
            continue
        assert "error" not in told, told
        return told["result"]

    async def until(self, event: str) -> None:
        """Wait until an event has happened."""
        while event not in self._events:
            await self._told()

    async def _told(self) -> dict[str, Any]:
        told: dict[str, Any] = await self._socket.receive_json()
        if "method" in told:
            self._events.append(told["method"])
        return told
