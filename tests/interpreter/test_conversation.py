"""A conversation's own limits, which a whole agent has no option for."""

from collections.abc import AsyncIterator
from pathlib import Path

from aiohttp import web

from agent.interpreter.contexts import Contexts
from agent.interpreter.conversation import Conversation
from agent.settings import Settings
from agent.web.duplex import Door
from agent.web.routes import Routes
from agent.web.websockets import MESSAGE_BYTES, WEBSOCKETS, Websockets
from tests.interpreter.conftest import Talk
from tests.keeper.harness import running as running_keeper
from tests.support.serving import TOKEN, serving


async def test_a_client_that_says_nothing_is_sent_away(tmp_path: Path) -> None:
    async with running_keeper(tmp_path) as house:
        contexts = Contexts(await house.open(), str(tmp_path))
        routes = Routes("hasty")

        @routes.get("/talk", websocket="only")
        async def talk(request: web.Request) -> web.StreamResponse:
            """Wait for a tenth of a second."""
            async with Door(request, MESSAGE_BYTES) as door:
                await Conversation(await door.open(), contexts, 0.1).hold()
                return door.response

        async def context(app: web.Application) -> AsyncIterator[None]:
            app[WEBSOCKETS] = Websockets()
            yield

        settings = Settings(port=0, token=TOKEN)
        async with (
            serving([routes], [context], settings) as served,
            served.client.ws_connect(f"{served.url}/talk", headers=served.auth) as ws,
        ):
            ran = await Talk(ws).end()

    assert (ran.code, ran.reason) == (1002, "failed to read first message")
