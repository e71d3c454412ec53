"""The agent's own HTTP side with one small route, its requests counted or not.

python -I counting.py PORT yes|no
"""

import asyncio
import socket
import sys

from agent import wire
from agent.settings import Settings
from agent.web.dispatch import Dispatcher
from agent.web.routes import Routes
from agent.web.server import Server, application

routes = Routes("bench")


class Answer(wire.Model, frozen=True, kw_only=True):
    """A small JSON object."""

    dir: str


@routes.get("/work-dir")
async def work_dir() -> Answer:
    """Answer the one route."""
    return Answer(dir="/workspace")


async def serve(port: int, *, counting: bool) -> None:
    """Serve until killed."""
    settings = Settings(trust_network=True)
    dispatcher = Dispatcher([routes], settings, counting=counting)
    server = Server(application(dispatcher, settings), settings)
    await server.start([socket.create_server(("127.0.0.1", port))])
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), counting=sys.argv[2] == "yes"))
