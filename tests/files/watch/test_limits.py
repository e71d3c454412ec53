"""Limits on listeners and trees, small here, with a real keeper behind the route."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import ClientResponse, web

from agent.files.watch import routes as watch_routes, watches
from agent.keeper.client import Keeper
from agent.registry import KEEPER, WATCHES, WORK_DIR
from agent.settings import Settings
from tests.keeper.harness import running
from tests.support.serving import AUTH, TOKEN, Served, serving, settled


class House:
    """A server of the route, and its keeper."""

    def __init__(self, served: Served, keeper: Keeper, work_dir: Path) -> None:
        self.served = served
        self.keeper = keeper
        self.work_dir = work_dir

    async def listen(self, name: str) -> ClientResponse:
        """Listen, and take the first bytes of the answer."""
        path = self.work_dir / name
        answer = await self.served.client.get(self.served.at("/files/watch", path))
        await answer.content.readany()
        return answer

    async def status(self, name: str) -> int:
        """Return how an attempt to listen is answered."""
        path = self.work_dir / name
        url = self.served.at("/files/watch", path)
        async with self.served.client.get(url) as answer:
            return answer.status

    async def watched(self) -> int:
        """Return how many programs watch."""
        return len(await self.keeper.list())


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """Serve the route; no program may be left watching."""
    async with running(tmp_path) as keeper_house:
        keeper = await keeper_house.open()
        work_dir = keeper_house.work_dir
        for name in "abc":
            (work_dir / name).mkdir()

        def prepare(app: web.Application) -> None:
            app[WORK_DIR] = str(work_dir)
            app[KEEPER] = keeper

        async with serving(
            [watch_routes.routes],
            [watch_routes.context],
            Settings(token=TOKEN, state_dir=str(tmp_path / "state")),
            prepare=prepare,
            headers=AUTH,
        ) as served:
            yield House(served, keeper, work_dir)
        assert await keeper.list() == ()


async def test_a_listener_too_many_is_refused_until_one_leaves(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watches, "LISTENERS_MAX", 2)
    with contextlib.ExitStack() as stack:
        stack.callback((await house.listen("a")).close)
        answer = stack.enter_context(contextlib.closing(await house.listen("a")))
        assert await house.status("a") == 429
        assert await house.status("b") == 429

        answer.close()
        owner = house.served.app[WATCHES]
        await settled(lambda: owner._listeners == 1)

        assert await house.status("b") == 200


async def test_a_tree_too_many_is_refused_until_one_has_no_listeners(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watches, "TREES_MAX", 2)
    with contextlib.ExitStack() as stack:
        stack.callback((await house.listen("a")).close)
        answer = stack.enter_context(contextlib.closing(await house.listen("b")))
        assert await house.status("c") == 429
        assert await house.status("a") == 200
        assert await house.watched() == 2

        answer.close()
        owner = house.served.app[WATCHES]
        await settled(lambda: owner._listeners == 1)

        # The one that nobody listens to makes room before its time.
        stack.callback((await house.listen("c")).close)
        await settled(lambda: not owner._closing)
        assert await house.watched() == 2


async def test_a_tree_is_watched_no_more_some_time_after_its_last_listener(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = house.served.app[WATCHES]
    monkeypatch.setattr(owner, "_resume_s", 0.05)

    assert await house.status("a") == 200
    await settled(lambda: not owner._trees and not owner._closing)

    assert await house.watched() == 0
