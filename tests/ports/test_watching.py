"""The one poll that all followers of ports share."""

import asyncio
import threading

from agent.ports.watching import PortWatch
from tests.support.serving import settled

LIMIT_S = 5.0


class Table:
    """Open ports as a test sets them."""

    def __init__(self, *ports: int) -> None:
        self.ports = list(ports)
        self.reads = 0
        self._lock = threading.Lock()

    def read(self) -> list[int]:
        """Return what is open now."""
        with self._lock:
            self.reads += 1
            return list(self.ports)


async def test_a_follower_is_told_what_there_is_and_then_what_changes() -> None:
    table = Table(3000, 8080)
    watch = PortWatch(table.read, period_s=0.001)

    with watch.follow() as follower:
        first = await follower.take(LIMIT_S)
        table.ports = [3000, 5173]
        second = await follower.take(LIMIT_S)

    assert first is not None
    assert second is not None
    assert [(each.kind, each.ports) for each in first] == [("snapshot", [3000, 8080])]
    assert [(each.kind, each.port) for each in second] == [
        ("closed", 8080),
        ("opened", 5173),
    ]


async def test_all_followers_share_one_poll() -> None:
    table = Table(3000)
    watch = PortWatch(table.read, period_s=0.02)

    with watch.follow() as one, watch.follow() as two:
        await one.take(LIMIT_S)
        await two.take(LIMIT_S)
        assert table.reads == 1
        table.ports = []
        events = await asyncio.gather(one.take(LIMIT_S), two.take(LIMIT_S))

    assert [[each.port for each in told or ()] for told in events] == [[3000], [3000]]


async def test_nothing_is_read_when_nobody_follows() -> None:
    table = Table(3000)
    watch = PortWatch(table.read, period_s=0.001)
    with watch.follow() as follower:
        await follower.take(LIMIT_S)
        await settled(lambda: table.reads > 3)

    assert not watch.is_polling
    # A read that had begun may come to its end.
    await asyncio.sleep(0.01)
    before = table.reads
    await asyncio.sleep(0.02)
    assert table.reads == before


async def test_silence_is_told_so_that_a_ping_can_be_sent() -> None:
    watch = PortWatch(Table(3000).read, period_s=0.001)

    with watch.follow() as follower:
        await follower.take(LIMIT_S)
        assert await follower.take(0.01) == []


async def test_the_end_lets_followers_go() -> None:
    watch = PortWatch(Table(3000).read, period_s=0.001)

    with watch.follow() as follower:
        await follower.take(LIMIT_S)
        waiting = asyncio.create_task(follower.take(LIMIT_S))
        await asyncio.sleep(0)
        await watch.aclose()
        assert await waiting is None


async def test_a_poll_that_fails_once_is_made_again() -> None:
    table = Table(3000)
    failures = [OSError("too many open files")]

    def read() -> list[int]:
        if table.reads and failures:
            raise failures.pop()
        return table.read()

    watch = PortWatch(read, period_s=0.001)
    with watch.follow() as follower:
        await follower.take(LIMIT_S)
        table.ports = []
        events = await follower.take(LIMIT_S)

    assert not failures
    assert events is not None
    assert [each.kind for each in events] == ["closed"]
