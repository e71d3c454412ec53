"""The api process: everything but what must outlive a request.

Started by the keeper, or just before it, with the line to it as descriptor 3. Its options
and the listening sockets come over that line, so no secret is in its arguments or
environment. It may be killed at any time: the next one serves on the same sockets.
"""

# ruff: noqa: E402 - import_server comes before everything that imports asyncio

import sys

from agent.lean import import_server

import_server()

import asyncio
import contextlib
import ctypes
import dataclasses
import logging
import os
import socket

from aiohttp import web

from agent.app import build
from agent.errors import AgentError
from agent.keeper.answers import KeeperGoneError
from agent.keeper.client import Keeper
from agent.keeper.early import LINE_FD
from agent.settings import Settings
from agent.web.log import set_up_log
from agent.web.server import DISPATCHER, Server
from agent.web.websockets import WEBSOCKETS

log = logging.getLogger("agent.api")

PR_SET_DUMPABLE = 4
PR_SET_NAME = 15


async def serve() -> int:
    """Serve until the keeper says to stop, or is gone; return the exit code."""
    try:
        keeper = await Keeper.connect(LINE_FD)
    except KeeperGoneError:
        # The agent was not to be started after all, and has said why.
        return 0
    sockets = keeper.listeners
    settings = with_ports(keeper.settings, sockets)
    set_up_log(settings)
    app = build(keeper, settings, keeper.work_dir)
    server = Server(app, settings)
    try:
        await server.start(sockets)
        await keeper.ready()
        if settings.dev and keeper.generation == 1:
            show_banner(settings)
        await run_until_exit(app, keeper)
    finally:
        await server.aclose()
        with contextlib.suppress(AgentError):
            await keeper.aclose()
    return 0


async def run_until_exit(app: web.Application, keeper: Keeper) -> None:
    """Wait for the keeper's word to drain, do so, and wait for its word to exit."""
    async with asyncio.TaskGroup() as tasks:
        draining = tasks.create_task(drain(app, keeper))
        await keeper.on_exit.wait()
        draining.cancel()


async def drain(app: web.Application, keeper: Keeper) -> None:
    """Once asked to: close the websockets, answer what is in flight, and say so."""
    await keeper.on_drain.wait()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(app[DISPATCHER].drain())
        tasks.create_task(app[WEBSOCKETS].close_all())
    await keeper.drained()


def with_ports(settings: Settings, sockets: list[socket.socket]) -> Settings:
    """Return the settings with the ports that were taken where 0 asked for free ones."""
    ports = [each.getsockname()[1] for each in sockets]
    if not settings.dev:
        return dataclasses.replace(settings, port=ports[0])
    port, dev_port, preview_port = ports
    return dataclasses.replace(
        settings, port=port, dev_port=dev_port, preview_port=preview_port
    )


def show_banner(settings: Settings) -> None:
    """Print what a developer needs to begin."""
    # Imported here, because no agent but the dev command's may have it.
    from agent.dev.banner import banner  # noqa: PLC0415

    sys.stdout.write(banner(settings))
    sys.stdout.flush()


def main() -> int:
    """Run the api process; returns its exit code."""
    libc = ctypes.CDLL(None)
    # Other processes of this user must not read the token from our memory.
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    libc.prctl(PR_SET_NAME, b"toolbox-api", 0, 0, 0)
    # Nobody's directory is kept from being unmounted by us.
    os.chdir("/")
    return asyncio.run(serve())


if __name__ == "__main__":
    sys.exit(main())
