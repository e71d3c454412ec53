"""The keeper's side of the timeline, over its line, without an api."""

import asyncio
import json
from pathlib import Path
from typing import Any

from agent.errors import InvalidRequestError
from agent.keeper.client import Keeper, Spec
from agent.keeper.event_client import KeptEvents
from agent.keeper.frames import Header
from tests.keeper.harness import running


def events_of(lines: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines.splitlines()]


class Ear:
    """Hears what the keeper passes on."""

    def __init__(self) -> None:
        self.heard: list[dict[str, Any]] = []
        self.bell = asyncio.Event()

    def take(self, first: int, last: int, lines: bytes) -> None:
        """Take lines, and see that the numbers are theirs."""
        events = events_of(lines)
        assert [each["id"] for each in events] == list(range(first, last + 1))
        self.heard += events
        self.bell.set()

    async def until(self, kind: str) -> list[str]:
        """Return the types up to one of them."""
        while kind not in (kinds := [each["type"] for each in self.heard]):
            self.bell.clear()
            await self.bell.wait()
        return kinds


async def test_what_the_api_tells_is_in_one_order_with_the_keepers_own(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as house:
        keeper = await house.open()
        ear = Ear()
        there = await KeptEvents(keeper).follow(ear.take)
        keeper.tell("test.before", some_name="x", left_out=None)
        await keeper.run(Spec(argv=["true"]))
        keeper.tell("test.after")

        kinds = await ear.until("test.after")

        assert kinds == [
            *("test.before", "command.started", "command.ended", "test.after")
        ]
        first = ear.heard[0]
        assert first["id"] == there.newest + 1
        assert first["someName"] == "x"
        assert "leftOut" not in first


async def test_nobody_is_told_any_more_after_leaving(tmp_path: Path) -> None:
    async with running(tmp_path) as house:
        keeper = await house.open()
        ear = Ear()
        kept = KeptEvents(keeper)
        await kept.follow(ear.take)
        kept.unfollow()
        keeper.tell("test.told")

        block = await kept.read(0)

        assert ear.heard == []
        assert events_of(block.lines)[-1]["type"] == "test.told"


async def test_helpers_of_the_agents_own_are_not_told(tmp_path: Path) -> None:
    async with running(tmp_path) as house:
        keeper = await house.open()
        await keeper.run(Spec(argv=["true"], kind="search"))
        block = await KeptEvents(keeper).read(0)

        kinds = [each["type"] for each in events_of(block.lines)]
        assert kinds == ["agent.started", "api.started", "api.ready"]


async def test_numbers_go_on_when_the_agent_starts_again(tmp_path: Path) -> None:
    found = []
    for _ in range(3):
        async with running(tmp_path) as house:
            api = await house.next_api()
            keeper = await api.open()
            await keeper.run(Spec(argv=["true"]))
            house.stop()
            await keeper.on_drain.wait()
            await keeper.drained()
            await keeper.on_exit.wait()
            api.leave()
            assert await house.exit_code() == 0
    for path in sorted((tmp_path / "state" / "events").iterdir()):
        found += events_of(path.read_bytes())

    assert [each["id"] for each in found] == list(range(1, len(found) + 1))
    kinds = [each["type"] for each in found]
    assert (
        kinds
        == [
            "agent.started",
            "api.started",
            "api.ready",
            "command.started",
            "command.ended",
            "agent.stopping",
            "api.ended",
        ]
        * 3
    )
    assert found[-1]["reason"] == "agent-stopping"


async def test_a_killed_keeper_loses_nothing_that_was_read(tmp_path: Path) -> None:
    async with running(tmp_path) as house:
        keeper = await house.open()
        await keeper.run(Spec(argv=["true"]))
        newest = (await KeptEvents(keeper).read(0)).there.newest
    async with running(tmp_path) as house:
        keeper = await house.open()
        block = await KeptEvents(keeper).read(newest)

        new = [each for each in events_of(block.lines) if each["id"] > newest]
        assert [each["id"] for each in new] == list(range(newest + 1, newest + 4))
        assert new[0]["type"] == "agent.started"


async def test_odd_events_are_refused_and_harm_nobody(tmp_path: Path) -> None:
    async with running(tmp_path) as house:
        keeper = await house.open()
        for odd in ({}, {"type": 1}, {"type": "x"}, {"type": "x" * 65, "facts": {}}):
            await refused(keeper, "event", odd)
        for odd in ({}, {"since": "x"}, {"since": 1, "first": 1}, {"since": 2**70}):
            await refused(keeper, "events.read", odd)

        strange: Header = {"since": -5, "first": 1, "offset": -7}
        answer, lines = await keeper.request("events.read", b"", strange)

        assert answer["newest"] == 3
        assert lines.count(b"\n") == 3


async def refused(keeper: Keeper, operation: str, header: Any) -> None:
    try:
        await keeper.request(operation, b"", header)
    except InvalidRequestError:
        return
    raise AssertionError((operation, header))
