"""What must hold whatever happens: nothing lost, nothing repeated, nothing left over.

The numbers are rows of the list of bugs that others have shipped.
"""

import asyncio
import contextlib
import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from aiohttp import ClientError

from tests.sessions.conftest import FIRST, VERSION_HEADER, Desk, Place, asking
from tests.support.agent import Agent, StartAgent, running
from tests.support.processes import alive, tree

MIB = 1024 * 1024
SEQUENCE = b"".join(b"%d\n" % number for number in range(1, 2001))


def descriptors(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def pss_bytes(pid: int) -> int:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return next(
        int(line.split()[1]) * 1024 for line in text.splitlines() if line[:4] == "Pss:"
    )


def ticks(pid: int) -> int:
    """Return the processor time that a process has used, in hundredths of a second."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return int(fields[11]) + int(fields[12])


# -- the end comes last (20, 25, 27) ----------------------------------------------


async def whole_at_the_end(place: Place, rounds: int) -> None:
    for _ in range(rounds):
        command = await place.start("seq 1 2000")
        while "exitCode" not in await place.told(command):
            """Asked again at once."""
        assert (await place.logs(command, offset=0)).body == SEQUENCE


async def test_the_exit_code_is_never_seen_before_the_last_line(desk: Desk) -> None:
    places = [await desk.create() for _ in range(4)]

    await asyncio.gather(*(whole_at_the_end(place, 15) for place in places))


@pytest.mark.long
@pytest.mark.timeout(120)
async def test_the_exit_code_is_not_seen_early_in_five_hundred_commands(
    desk: Desk,
) -> None:
    places = [await desk.create() for _ in range(5)]

    await asyncio.gather(*(whole_at_the_end(place, 100) for place in places))


async def test_what_follows_ends_with_the_last_byte_and_a_known_code(
    each: Place,
) -> None:
    for _ in range(20):
        command = await each.start("seq 1 2000; exit_() { return 3; }; exit_")
        followed = await each.follow(command)

        assert followed.parts == (SEQUENCE, b"")
        assert (await each.told(command))["exitCode"] == 3


@pytest.mark.alone
async def test_a_follower_hears_of_the_end_within_half_a_second(place: Place) -> None:
    command = await place.start("echo up; read x; date +%s.%N")
    following = asyncio.create_task(place.follow(command))
    await place.until_printed(command, b"up\n")
    await place.send(command, "")

    ended = float((await following).parts[0].split()[-1])

    assert time.time() - ended < 0.5


# -- reconnects and killed apis ---------------------------------------------------


async def follow_through(
    desk: Desk, path: str, chance: random.Random, found: bytearray, ends: bytes
) -> None:
    """Follow a log to its last line, from where it broke off each time."""
    while not found.endswith(ends):
        patience = chance.randrange(1, 200_000)
        with contextlib.suppress(ClientError, ConnectionError):
            url = desk.url(path, follow="true", offset=len(found))
            async with desk.client.get(url, headers={VERSION_HEADER: FIRST}) as answer:
                assert answer.status == 200
                async for piece in answer.content.iter_any():
                    found += piece
                    patience -= len(piece)
                    if patience < 0:
                        break


async def nothing_lost_over(kills: int, start_agent: StartAgent) -> None:
    agent = start_agent("--shell", "/bin/bash")
    chance = random.Random(kills)
    async with asking(agent) as desk:
        place = await desk.create()
        command = await place.start(
            "i=0; while [ ! -e stop ]; do echo $i; i=$((i+1)); "
            '[ $((i % 100)) = 0 ] && sleep 0.002; done; echo "end $i"'
        )
        queued = await place.start("echo queued $i")
        found = bytearray()
        path = place.at(command, "/logs")
        async with asyncio.TaskGroup() as tasks:
            following = tasks.create_task(
                follow_through(desk, path, chance, found, b"\n#")
            )
            for _ in range(kills):
                size = len(found)
                os.kill(await asyncio.to_thread(agent.api_pid), signal.SIGKILL)
                while len(found) <= size + chance.randrange(2000):  # noqa: ASYNC110 - bytes are the event
                    await asyncio.sleep(0.001)
                # Answered by the next one, which then is the only one.
                await place.all()
            (agent.work_dir / "stop").touch()
            following.cancel()
        await follow_through(desk, path, chance, found, await last_line(place, command))

        lines = bytes(found).splitlines()
        assert lines[-1] == b"end %d" % (len(lines) - 1)
        assert lines[:-1] == [b"%d" % number for number in range(len(lines) - 1)]
        assert await place.code(command) == 0
        assert await place.code(queued) == 0
        log = (await place.logs(queued)).json()
        assert log["stdout"] == f"queued {len(lines) - 1}\n"


async def last_line(place: Place, command: str) -> bytes:
    """Wait for the end of a command, and return its last line."""
    while True:
        with contextlib.suppress(ClientError, ConnectionError):
            if "exitCode" in await place.told(command):
                break
    log = await place.logs(command, offset=0)
    return log.body.splitlines()[-1] + b"\n"


@pytest.mark.timeout(60)
async def test_numbered_output_has_no_gap_over_five_killed_apis(
    start_agent: StartAgent,
) -> None:
    await nothing_lost_over(5, start_agent)


@pytest.mark.long
@pytest.mark.timeout(240)
async def test_numbered_output_has_no_gap_over_fifty_killed_apis(
    start_agent: StartAgent,
) -> None:
    await nothing_lost_over(50, start_agent)


# -- much output (32, 40) ---------------------------------------------------------

WRITER = """
import hashlib, os, sys
size, sums = int(sys.argv[1]), [hashlib.sha256(), hashlib.sha256()]
block = os.urandom(1 << 20).replace(b"\\1", b"a").replace(b"\\2", b"b")
for number in range(size >> 17):
    stream, at = number & 1, number * 4099 % (1 << 19)
    piece = block[at : at + (1 << 17)]
    sums[stream].update(piece)
    while piece:
        piece = piece[os.write(1 + stream, piece):]
with open(sys.argv[2], "w") as file:
    file.write(" ".join(each.hexdigest() for each in sums))
"""


class Growth:
    """Watches the memory of an agent's two processes."""

    def __init__(self, agent: Agent) -> None:
        self._pids = (agent.pid, agent.api_pid())
        self._before = [pss_bytes(pid) for pid in self._pids]
        self.most = [0, 0]

    def look(self) -> None:
        """Take note of how much each has grown."""
        for number, pid in enumerate(self._pids):
            grown = pss_bytes(pid) - self._before[number]
            self.most[number] = max(self.most[number], grown)

    async def watch(self) -> None:
        """Look all the time, until cancelled."""
        while True:
            await asyncio.to_thread(self.look)
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def watching(agent: Agent) -> AsyncIterator[Growth]:
    growth = Growth(agent)
    task = asyncio.create_task(growth.watch())
    try:
        yield growth
    finally:
        task.cancel()
        await asyncio.wait([task])


def size_of(directory: Path) -> int:
    return sum(each.stat().st_size for each in directory.rglob("*"))


async def much_output_is_followed_in_little_memory(
    tmp_path: Path, size: int, kept: int
) -> None:
    with running(
        *(tmp_path, "--command-log-max-bytes", str(kept)), measured=False
    ) as agent:
        (agent.work_dir / "writer.py").write_text(WRITER)
        async with asking(agent) as desk, watching(agent) as growth:
            place = await desk.create()
            await place.run("true")
            command = await place.start(
                f"{sys.executable} -I writer.py {size} sums; echo $?"
            )
            sums = await follow_both(desk, place.at(command, "/logs"))
            assert (await place.told(command))["exitCode"] == 0
            verdict = (await place.told(command, verbose="true"))["verdict"]
            written, dropped = verdict["bytesWritten"], verdict["bytesDropped"]
            assert written == size + 2
            assert dropped == max(0, written - kept)
            stored = size_of(agent.state_dir / "spool")
            assert written - dropped <= stored < written - dropped + 4 * MIB
            if not dropped:
                wanted = (agent.work_dir / "sums").read_text().split()
                assert sums[1] == wanted[1]
        assert max(growth.most) < 32 * MIB, growth.most
        assert len(agent.log()) < MIB


async def follow_both(desk: Desk, path: str) -> tuple[str, str]:
    """Follow both outputs, each by itself, and return their sums."""

    async def follow(name: str) -> str:
        found = hashlib.sha256()
        url = desk.url(path, follow="true", offset=0, stream=name)
        async with desk.client.get(url) as answer:
            async for piece in answer.content.iter_any():
                found.update(piece)
        return found.hexdigest()

    return await asyncio.gather(follow("stdout"), follow("stderr"))


@pytest.mark.alone
@pytest.mark.timeout(60)
async def test_a_hundred_megabytes_take_little_memory(tmp_path: Path) -> None:
    await much_output_is_followed_in_little_memory(tmp_path, 96 * MIB, 256 * MIB)


@pytest.mark.alone
@pytest.mark.timeout(60)
async def test_what_is_past_the_bound_takes_no_room(tmp_path: Path) -> None:
    await much_output_is_followed_in_little_memory(tmp_path, 64 * MIB, 16 * MIB)


@pytest.mark.long
@pytest.mark.alone
@pytest.mark.timeout(300)
async def test_a_gigabyte_takes_little_memory(tmp_path: Path) -> None:
    await much_output_is_followed_in_little_memory(tmp_path, 1024 * MIB, 2048 * MIB)


# -- nothing left over (13, 35) ---------------------------------------------------


@pytest.mark.timeout(60)
async def test_a_thousand_commands_leave_no_pipe_process_or_descriptor(
    module_agent: Agent, desk: Desk
) -> None:
    places = [await desk.create() for _ in range(4)]

    async def work(place: Place, rounds: int) -> None:
        for number in range(rounds):
            assert await place.out(f"echo {number}") == f"{number}\n"
            command = await place.start("read x; echo $x", suppressInputEcho=True)
            await place.send(command, "given")
            assert await place.code(command) == 0

    def held() -> tuple[set[int], int, int]:
        spool = module_agent.state_dir / "spool"
        pipes = len([path for path in spool.rglob("*") if path.is_fifo()])
        return tree(module_agent.pid), descriptors(module_agent.pid), pipes

    await asyncio.gather(*(work(place, 2) for place in places))
    before = held()
    await asyncio.gather(*(work(place, 123) for place in places))

    assert held() == before
    assert before[2] <= 4 * 4
    assert [len(await place.all()) for place in places] == [250] * 4


@pytest.mark.alone
@pytest.mark.timeout(60)
async def test_many_sessions_made_and_deleted_take_no_memory(tmp_path: Path) -> None:
    with running(tmp_path, "--grace-s", "1", measured=False) as agent:
        async with asking(agent) as desk:
            for _ in range(50):
                place = await desk.create("again")
                await place.out("echo on")
                await place.delete()
            growth = Growth(agent)
            for _ in range(300):
                place = await desk.create("again")
                await place.out("echo on")
                await place.delete()
            growth.look()

    assert max(growth.most) < 3 * MIB, growth.most


# -- idle followers, stopped readers (26) -----------------------------------------


@pytest.mark.alone
async def test_fifty_idle_followers_cost_nothing(tmp_path: Path) -> None:
    with running(tmp_path, measured=False) as agent:
        async with asking(agent) as desk:
            place = await desk.create()
            command = await place.start("echo up; read x")
            tasks = [asyncio.create_task(place.follow(command)) for _ in range(50)]
            await place.until_printed(command, b"up\n")
            await asyncio.sleep(0.3)
            pids = (agent.pid, agent.api_pid())
            before = sum(map(ticks, pids))

            await asyncio.sleep(2)

            assert sum(map(ticks, pids)) - before <= 10
            await place.send(command, "")
            for task in tasks:
                assert (await task).parts == (b"up\n\n", b"")


# -- dead shells (24) -------------------------------------------------------------


async def shell_of(place: Place) -> int:
    return int(await place.out("echo $$"))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
async def test_a_killed_shell_ends_its_command_and_refuses_the_next(
    each: Place, number: signal.Signals
) -> None:
    shell = await shell_of(each)
    waiting = asyncio.create_task(each.exec("echo up; sleep 99"))
    while len(await each.all()) < 2:
        """The answer takes its time."""
    queued = await each.start("echo never")
    await each.until_printed((await each.all())[1]["id"], b"up\n")
    began = time.monotonic()

    os.kill(shell, number)

    told = await waiting
    assert (told.status, told.json()["exitCode"]) == (200, 128 + number)
    assert (await each.exec("echo no")).failure == (410, "SESSION_ENDED")
    assert time.monotonic() - began < 2
    assert (await each.told(queued))["exitCode"] == -1
    assert (await each.delete()).status == 204


async def test_an_idle_shell_that_dies_is_noticed(place: Place) -> None:
    shell = await shell_of(place)

    os.kill(shell, signal.SIGKILL)
    while alive(shell):
        """It is being reaped."""

    deadline = time.monotonic() + 2
    while (await place.exec("echo no", runAsync=True)).status != 410:
        assert time.monotonic() < deadline


# -- interactive shells inside (7) ------------------------------------------------


async def test_a_shell_inside_neither_stops_nor_survives(place: Place) -> None:
    assert (await place.run("bash -ic 'echo ok'"))["stdout"] == "ok\n"
    told = await place.run("bash -ic 'sleep 99 & echo $!'")
    child = int(told["stdout"].split()[-1])
    assert alive(child)

    await place.delete()

    assert not alive(child)


# -- the state directory is not safe from the user's code (38) --------------------


async def test_a_state_directory_that_was_removed_breaks_no_session(
    start_agent: StartAgent,
) -> None:
    agent = start_agent("--shell", "/bin/bash", token="given")
    async with asking(agent) as desk:
        place = await desk.create()
        told = await place.run(f"rm -rf {agent.state_dir}; echo gone")

        assert (told["exitCode"], told["stdout"]) == (0, "gone\n")
        assert await place.out("echo on") == "on\n"
        command = await place.start("read x; head -c 100000 /dev/zero")
        await place.send(command, "go")
        assert await place.code(command) == 0
        assert len((await place.logs(command, offset=0)).body) == 100_003
        other = await desk.create()
        assert await other.out("echo on") == "on\n"


# -- a full disk ------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a disk of two megabytes."""
    if os.geteuid():
        pytest.skip("only root mounts")
    disk = tmp_path / "disk"
    disk.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    subprocess.run(words, check=True)
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.root
async def test_on_a_full_disk_the_exit_code_still_arrives(
    tmp_path: Path, small_disk: Path
) -> None:
    options = ("--state-dir", str(small_disk / "state"), "--shell", "/bin/bash")
    with running(tmp_path / "agent", *options, token="given") as agent:
        async with asking(agent) as desk:
            place = await desk.create()
            told = await place.run("head -c 10000000 /dev/zero; (exit 7)")

            assert told["exitCode"] == 7
            kept = (await place.logs(told["cmdId"], offset=0)).body
            dropped = (await place.told(told["cmdId"], verbose="true"))["verdict"]
            assert len(kept) + dropped["bytesDropped"] == 10_000_000
            assert dropped["bytesDropped"] > 7_000_000
            # What is short needs no room; a long text does, and is refused.
            short = await place.run("echo short; (exit 5)")
            assert (short["exitCode"], short["stdout"]) == (5, "short\n")
            long = await place.exec("#" + "x" * 20_000)
            assert long.failure == (507, "INSUFFICIENT_STORAGE")
            command = await place.start("head -c 9000000 /dev/zero; (exit 6)")
            assert (await place.follow(command)).code == 1000
            assert (await place.told(command))["exitCode"] == 6
            await place.delete()
            other = await desk.create()
            assert len(await other.out("head -c 100000 /dev/zero")) == 100_000


# -- the agent's own end (18, 19) -------------------------------------------------


@pytest.mark.alone
async def test_twenty_followers_and_five_commands_do_not_hold_up_the_end(
    tmp_path: Path,
) -> None:
    with running(tmp_path, "--grace-s", "1", measured=False) as agent:
        async with asking(agent) as desk:
            places = [await desk.create() for _ in range(5)]
            commands = [await place.start("echo up; sleep 99") for place in places]
            tasks = []
            for place, command in zip(places, commands, strict=True):
                await place.until_printed(command, b"up\n")
                tasks += [asyncio.create_task(place.follow(command)) for _ in range(4)]
            await asyncio.sleep(0.2)
            began = time.monotonic()

            assert await asyncio.to_thread(agent.stop) == 0

            assert time.monotonic() - began < 5
            closed = [(await task).code for task in tasks]
    assert set(closed) <= {1000, 1001}
