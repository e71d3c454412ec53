"""Begins and ends the export; nothing of OpenTelemetry is loaded unless it is asked for."""

import asyncio
import contextlib
import importlib.util
import logging
import threading
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from agent.errors import InvalidRequestError
from agent.keeper.client import Keeper
from agent.settings import Settings
from agent.system.telemetry.entrypoint import follow_entrypoint
from agent.web.dispatch import Dispatcher

if TYPE_CHECKING:
    from agent.system.telemetry.export import Export

log = logging.getLogger("agent.telemetry")

END_LIMIT_S = 1.0
"""What is not exported by then is lost; the agent's end waits no longer."""


class Telemetry:
    """Exports what the agent does, once it was given a token, if it is to at all.

    Args:
        settings: Where to, and what the sandbox is called.
        keeper: Knows what the entrypoint writes.
        dispatcher: Tells of requests.
    """

    def __init__(
        self, settings: Settings, keeper: Keeper, dispatcher: Dispatcher
    ) -> None:
        self._settings = settings
        self._keeper = keeper
        self._dispatcher = dispatcher
        self._export: Export | None = None
        self._following: asyncio.Task[None] | None = None
        self._changing = asyncio.Lock()
        self._offset = 0

    @property
    def is_wanted(self) -> bool:
        """Whether there is an endpoint, and what is needed to talk to it."""
        if not self._settings.otel_endpoint:
            return False
        if importlib.util.find_spec("opentelemetry") is None:
            # Said each time that somebody asks, which is seldom.
            log.warning("telemetry is wanted, but the extra `otel` is not installed")
            return False
        return True

    async def begin(self, token: str) -> None:
        """Export from now on with a token; an earlier export ends.

        Raises:
            InvalidRequestError: It cannot be set up.
        """
        if not self.is_wanted:
            return
        endpoint = self._settings.otel_endpoint.rstrip("/")
        if urlsplit(endpoint).scheme not in {"http", "https"}:
            raise InvalidRequestError("telemetry: the endpoint is no HTTP address")
        if not (token.isascii() and token.isprintable()):
            raise InvalidRequestError("telemetry: the token cannot be sent in a header")
        async with self._changing:
            await self._end()
            # It takes a third of a second to load, and must not keep others waiting.
            export = await asyncio.to_thread(_set_up, self._settings, endpoint, token)
            self._export = export
            self._dispatcher.on_request = export.request
            self._following = asyncio.create_task(self._follow(export))

    async def aclose(self) -> None:
        """Export what is left, as far as that is quick."""
        async with self._changing:
            await self._end()

    async def _end(self) -> None:
        if self._export is None:
            return
        self._dispatcher.on_request = None
        following, self._following = self._following, None
        if following is not None:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
        export, self._export = self._export, None
        loop = asyncio.get_running_loop()
        done = asyncio.Event()

        def end() -> None:
            export.end()
            with contextlib.suppress(RuntimeError):
                # The loop may be closed by now: then nobody waits for this any more.
                loop.call_soon_threadsafe(done.set)

        # A thread that the interpreter's end does not wait for.
        threading.Thread(target=end, name="telemetry-end", daemon=True).start()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_LIMIT_S):
                await done.wait()

    async def _follow(self, export: "Export") -> None:
        async for line in follow_entrypoint(self._keeper, self._offset):
            self._offset = line.end
            export.output(line.stream, line.time, line.text)


def _set_up(settings: Settings, endpoint: str, token: str) -> "Export":
    # Imported here, because most agents export nothing.
    from agent.system.telemetry.export import Export  # noqa: PLC0415

    return Export(settings, endpoint, token)
