"""Terminals over real connections to a real agent (contract 32)."""

import asyncio

import pytest
from aiohttp import WSServerHandshakeError

from tests.pty.conftest import CONNECTED, Desk, environment_token


async def test_created_terminal_has_its_size_and_is_told_of(desk: Desk) -> None:
    async with desk.create("a", cols=100, rows=30) as screen:
        assert screen.socket.protocol == "X-Daytona-Pty-Exit-Control"
        status, told = await desk.ask("GET", "/a")

        assert status == 200
        assert told.pop("createdAt").endswith("Z")
        assert told == {
            "id": "a",
            "cwd": str(desk.agent.work_dir),
            "envs": {"TERM": "xterm-256color"},
            "cols": 100,
            "rows": 30,
            "active": True,
            "lazyStart": False,
        }
        assert b"30 100" in await screen.run("stty size; echo do''ne", b"done")


async def test_exit_is_told_after_the_last_output(desk: Desk) -> None:
    async with desk.create("a") as screen:
        await screen.type("printf X; exit 7\n")

        assert await screen.until_closed() == (
            1011,
            '{"exitCode":7,"exitReason":"non-zero exit"}',
        )
        assert screen.controls == [
            CONNECTED,
            {
                "type": "control",
                "status": "exited",
                "exitCode": 7,
                "exitReason": "non-zero exit",
            },
        ]
        assert b"X" in screen.output
        assert (await desk.ask("GET", "/a"))[0] == 404
        assert await desk.ids() == []
