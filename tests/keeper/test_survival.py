"""What outlives an api, and how the keeper stops."""
# ruff: noqa: ASYNC240 - small local files, in a loop that serves nobody else

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path

import pytest

from agent.errors import ConflictError, UnavailableError
from agent.keeper.client import Keeper, KeeperGoneError, Spec
from agent.keeper.event_client import KeptEvents
from tests.keeper.harness import TAG, Api, House, below, gone, running
from tests.support.measuring import measuring
from tests.support.processes import alive, tagged


def sh(text: str, **more: object) -> Spec:
    return Spec(argv=["/bin/sh", "-c", text], **more)  # type: ignore[arg-type] # each test's own


async def both(house: House) -> tuple[Api, Keeper]:
    api = await house.next_api()
    return api, await api.open()


# -- the api dies -----------------------------------------------------------------


async def test_jobs_outlive_the_api_and_no_byte_is_lost(house: House) -> None:
    api, keeper = await both(house)
    job = await keeper.spawn(
        sh(
            "i=0; while [ $i -lt 50000 ]; do i=$((i+1)); echo $i; done; exit 42",
            kept=True,
            label="mine",
        )
    )
    content, offset = b"", 0
    for generation in range(2, 8):
        async with keeper.subscribe(job.id, offset, window_bytes=4096) as output:
            async for chunk in output:
                assert chunk.offset == offset
                content += chunk.data
                offset += len(chunk.data)
                if len(chunk.data) > 100:
                    break
        api.kill()
        await api.aclose()
        api, keeper = await both(house)
        assert keeper.generation == generation
        assert [each.label for each in await keeper.list()] == ["mine"]
        assert (await keeper.info(job.id)).pid == job.pid
    async with keeper.subscribe(job.id, offset) as output:
        content += b"".join([chunk.data async for chunk in output])

    assert content == b"".join(b"%d\n" % i for i in range(1, 50001))
    assert (await keeper.wait(job.id)).exit_code == 42


async def test_a_job_that_ended_without_an_api_has_its_end_told_to_the_next(
    house: House,
) -> None:
    api, keeper = await both(house)
    job = await keeper.spawn(sh("read x; exit 42", stdin="pipe", kept=True))
    api.kill()
    # Writes over the old line: what is on its way already is still done.
    await api.aclose()

    _, keeper = await both(house)
    await keeper.close_stdin(job.id)

    assert (await keeper.wait(job.id)).exit_code == 42


async def test_a_run_whose_api_died_goes_on_and_leaves_nothing(house: House) -> None:
    api, keeper = await both(house)
    os.mkfifo(house.work_dir / "gate")
    call = asyncio.create_task(
        keeper.run(sh("echo $$ > gate; cat gate > end; seq 1 200000"))
    )
    pid = int(await asyncio.to_thread((house.work_dir / "gate").read_text))
    api.kill()
    _, keeper = await both(house)

    with pytest.raises(KeeperGoneError):
        await call
    assert alive(pid)
    await asyncio.to_thread((house.work_dir / "gate").write_text, "on")
    assert await gone(pid)

    await keeper.run(sh("true"))
    assert (house.work_dir / "end").read_text() == "on"
    assert list((house.state / "spool").iterdir()) == []
    assert await keeper.list() == ()


async def test_connections_wait_while_no_api_takes_them(house: House) -> None:
    api, _ = await both(house)
    address = api.listener.getsockname()
    api.kill()
    await api.aclose()

    with socket.create_connection(address, timeout=5):
        api, _ = await both(house)
        taken, _ = await asyncio.get_running_loop().run_in_executor(
            None, api.listener.accept
        )
        taken.close()


async def test_what_the_api_started_itself_ends_with_it(house: House) -> None:
    api, keeper = await both(house)
    assert keeper.owner_tag == "api:1"
    # As a child of the api's would look after its death: an orphan with its tag.
    job = await keeper.spawn(
        sh(
            "env TOOLBOX_OWNER=api:1 setsid sh -c 'trap \"\" TERM; sleep 60; sleep 60' &"
            " env TOOLBOX_OWNER=api:11 setsid sleep 61 & echo $!"
        )
    )
    await keeper.wait(job.id)
    async with keeper.subscribe(job.id) as output:
        other = int((await anext(output)).data)

    api.kill()
    await api.aclose()
    _, keeper = await both(house)

    while below(house) != {other}:
        # Every question is a turn of the keeper's loop; the limit is the test's own.
        await keeper.stats()
    assert alive(other)


async def test_an_api_that_dies_at_once_is_not_started_in_a_spin(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as house:
        started = time.monotonic()
        for _ in range(5):
            api = await house.next_api()
            api.leave(3)
        took = time.monotonic() - started
        # At once, then 50, 100 and 200 ms later.
        assert took >= 0.35
        api = await house.next_api()
        await api.open()
        api.kill()
        started = time.monotonic()
        await house.next_api()

        # One that got ready starts the count anew.
        assert time.monotonic() - started < 1
        assert '"code": 3' in house.log.read_text()


async def test_an_api_that_does_not_take_up_answers_is_replaced(house: House) -> None:
    api, keeper = await both(house)
    job = await keeper.spawn(sh("sleep 60"))
    await keeper.kv_set("big", b"x" * (3 << 20))
    assert keeper._transport is not None
    keeper._transport.pause_reading()

    # Asked for without end, and never taken: 3 MiB each.
    calls = [asyncio.create_task(keeper.kv_get("big")) for _ in range(40)]
    _, second = await both(house)

    assert second.generation == 2
    assert await gone(api.pid)
    assert (await second.info(job.id)).state == "running"
    await keeper.aclose()
    await asyncio.gather(*calls, return_exceptions=True)


@pytest.mark.parametrize(
    "junk",
    [
        b"\xff" * 64,
        b"\0\0\0\x02\0\0\0\0[]",
        b"\0\0\0\x01\0\0\0\0{",
        b"\0\x20\0\0\0\0\0\0",
    ],
)
async def test_junk_on_the_line_costs_that_api_only(house: House, junk: bytes) -> None:
    api = await house.next_api()
    first = await api.open()
    job = await first.spawn(sh("sleep 60"))
    raw = socket.socket(fileno=os.dup(api.line))
    with raw:
        raw.send(junk)
    api, keeper = await both(house)

    assert keeper.generation == 2
    assert (await keeper.info(job.id)).state == "running"


async def test_a_lost_keeper_fails_all_who_wait(house: House) -> None:
    _, keeper = await both(house)
    job = await keeper.spawn(sh("sleep 60"))
    calls = [
        asyncio.create_task(keeper.wait(job.id)),
        asyncio.create_task(keeper.run(sh("sleep 60"))),
    ]
    output = keeper.subscribe(job.id)
    await output.open()

    house.process.kill()

    ends = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(end, UnavailableError) for end in ends)
    with pytest.raises(KeeperGoneError):
        await anext(output)
    with pytest.raises(KeeperGoneError):
        await keeper.stats()
    async with asyncio.timeout(5):
        await keeper.on_exit.wait()
    assert not keeper.on_drain.is_set()


# -- the store --------------------------------------------------------------------


async def test_the_store_and_the_environment_outlive_the_api(house: House) -> None:
    api, keeper = await both(house)
    await keeper.kv_set("name", b"\0value\xff")
    await keeper.kv_set("other", b"x")
    await keeper.kv_delete("other")
    await keeper.set_environment({"A": "1", "PATH": os.environ["PATH"]})
    api.kill()
    await api.aclose()
    _, keeper = await both(house)

    assert await keeper.kv_get("name") == b"\0value\xff"
    assert await keeper.kv_get("other") is None
    assert await keeper.kv_list() == ("name",)
    assert (await keeper.environment())["A"] == "1"


# -- the entrypoint ---------------------------------------------------------------


async def test_the_entrypoint_runs_once_and_stays_readable(tmp_path: Path) -> None:
    entrypoint = ("/bin/sh", "-c", "pwd; echo err >&2; exit 5")
    async with running(tmp_path, entrypoint=entrypoint) as house:
        api = await house.next_api()
        keeper = await api.open(ready=False)
        assert await keeper.list() == ()
        await keeper.ready()
        assert (await keeper.wait("entrypoint")).exit_code == 5
        api.kill()
        await api.aclose()
        _, keeper = await both(house)

        assert [job.id for job in await keeper.list()] == ["entrypoint"]
        async with keeper.subscribe("entrypoint") as output:
            chunks = [chunk async for chunk in output]
        assert b"".join(c.data for c in chunks if c.stream == 1) == (
            f"{house.work_dir}\n".encode()
        )
        assert b"".join(c.data for c in chunks if c.stream == 2) == b"err\n"
        record = json.loads((house.state / "jobs/entrypoint/exit.json").read_text())
        assert record["exit_code"] == 5


async def test_an_entrypoint_that_cannot_start_does_not_stop_the_agent(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, entrypoint=("/no/such",)) as house:
        _, keeper = await both(house)

        assert (await keeper.run(sh("echo on"))).output == b"on\n"
        assert "/no/such" in house.log.read_text()


async def test_user_signals_are_the_entrypoints(tmp_path: Path) -> None:
    entrypoint = (
        "/bin/sh",
        "-c",
        "trap 'exit 6' USR1; echo up; while :; do sleep 0.01; done",
    )
    async with running(tmp_path, entrypoint=entrypoint) as house:
        _, keeper = await both(house)
        async with keeper.subscribe("entrypoint") as output:
            await anext(output)
        house.stop(signal.SIGUSR1)

        assert (await keeper.wait("entrypoint")).exit_code == 6


# -- stopping ---------------------------------------------------------------------


async def follow_the_stop(keeper: Keeper, api: Api) -> None:
    """Do what an api does when the agent stops."""
    await keeper.on_drain.wait()
    with contextlib.suppress(KeeperGoneError):
        await keeper.drained()
    await keeper.on_exit.wait()
    api.leave()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_an_idle_agent_stops_at_once(
    house: House, number: signal.Signals
) -> None:
    api, keeper = await both(house)
    started = time.monotonic()
    house.stop(number)

    await follow_the_stop(keeper, api)

    assert await house.exit_code() == 0
    assert time.monotonic() - started < 1.5
    lines = await house.lines()
    assert lines == [f"Starting toolbox server on port {lines[0].split()[-1]}"]


async def test_stopping_ends_everything_in_time(house: House) -> None:
    api, keeper = await both(house)
    job = await keeper.spawn(
        sh(
            "trap 'echo bye; exit 5' TERM; echo up; while :; do sleep 0.05; done",
            kept=True,
        )
    )
    stubborn = await keeper.spawn(
        sh(
            "trap '' TERM; (setsid sh -c 'trap \"\" TERM; sleep 60; sleep 60' &);"
            " (env -i setsid sleep 61 >/dev/null &); echo up; while :; do sleep 60; done"
        )
    )
    terminal = await keeper.spawn(Spec(argv=["bash", "--norc", "-i"], output="pty"))
    for each in (job, stubborn, terminal):
        async with keeper.subscribe(each.id) as output:
            await anext(output)
    started = time.monotonic()
    house.stop()

    await follow_the_stop(keeper, api)

    assert await house.exit_code() == 0
    # The grace time of this agent is 2 s.
    assert 2 <= time.monotonic() - started < 4
    assert tagged(TAG, house.tag) == set()
    record = json.loads((Path(str(job.directory)) / "exit.json").read_text())
    assert record["exit_code"] == 5
    assert (Path(str(job.directory)) / "output.log").read_text().endswith("bye\n")


async def test_while_draining_the_api_is_served_and_then_nothing_is_started(
    house: House,
) -> None:
    api, keeper = await both(house)
    job = await keeper.spawn(sh("trap '' TERM; echo up; while :; do sleep 60; done"))
    async with keeper.subscribe(job.id) as output:
        await anext(output)
    house.stop()
    await keeper.on_drain.wait()

    assert (await keeper.run(sh("echo on"))).output == b"on\n"
    await keeper.drained()
    with pytest.raises(ConflictError):
        await keeper.run(sh("echo off"))

    await keeper.on_exit.wait()
    api.leave()
    assert await house.exit_code() == 0


async def test_an_api_that_neither_drains_nor_leaves_is_killed(house: House) -> None:
    _, keeper = await both(house)
    started = time.monotonic()
    house.stop()

    assert await house.exit_code() == 0

    assert 2.4 <= time.monotonic() - started < 4.5
    assert keeper.on_exit.is_set()


async def test_an_api_that_dies_while_stopping_is_not_started_again(
    house: House,
) -> None:
    api, keeper = await both(house)
    await keeper.spawn(sh("sleep 60"))
    started = time.monotonic()
    house.stop()
    await keeper.on_drain.wait()
    api.kill()

    assert await house.exit_code() == 0
    assert time.monotonic() - started < 1.5
    assert tagged(TAG, house.tag) == set()


async def test_a_second_signal_ends_at_once(house: House) -> None:
    _, keeper = await both(house)
    job = await keeper.spawn(
        sh(
            "trap '' TERM; (setsid sh -c 'trap \"\" TERM; sleep 60; sleep 60' &);"
            " echo up; while :; do sleep 60; done"
        )
    )
    async with keeper.subscribe(job.id) as output:
        await anext(output)
    house.stop()
    await keeper.on_drain.wait()
    started = time.monotonic()

    house.stop()

    assert await house.exit_code() == 0
    assert time.monotonic() - started < 1
    assert tagged(TAG, house.tag) == set()


# -- starting ---------------------------------------------------------------------


async def test_a_taken_port_is_one_clear_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        async with running(tmp_path, port=port) as house:
            assert await house.exit_code() == 1

            assert house.log.read_text() == (
                f"toolbox-agent: cannot listen on 127.0.0.1:{port}:"
                " Address already in use\n"
            )


async def test_a_bad_address_is_one_clear_line(tmp_path: Path) -> None:
    async with running(tmp_path, host="192.0.2.1") as house:
        assert await house.exit_code() == 1

        assert house.log.read_text().startswith("toolbox-agent: cannot listen on ")
        assert house.log.read_text().count("\n") == 1


@pytest.mark.parametrize("host", ["localhost", "::1", "[::1]", "127.0.0.1"])
async def test_every_spelling_of_loopback_is_listened_on(
    tmp_path: Path, host: str
) -> None:
    async with running(tmp_path, host=host) as house:
        keeper = await house.open()

        address = keeper.listeners[0].getsockname()[:2]
        with socket.create_connection(address, timeout=5):
            pass


async def test_dev_has_three_listeners(tmp_path: Path) -> None:
    async with running(tmp_path, dev=True, dev_port=0) as house:
        keeper = await house.open()

        ports = {each.getsockname()[1] for each in keeper.listeners}
        assert len(ports) == 3
        assert keeper.settings.dev


async def test_previews_are_beside_the_dev_port_unless_another_is_said(
    tmp_path: Path,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with running(tmp_path, dev=True, dev_port=port - 1) as house:
            assert await house.exit_code() == 1

            told = house.log.read_text()
            assert told.startswith(f"toolbox-agent: cannot listen on 127.0.0.1:{port}")
            assert "--preview-port" in told
            assert told.count("\n") == 1


async def test_a_state_directory_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "state").symlink_to(tmp_path / "target")
    async with running(tmp_path) as house:
        assert await house.exit_code() == 78

        assert "links are refused" in house.log.read_text()
        assert house.log.read_text().count("\n") == 1
        assert list((tmp_path / "target").iterdir()) == []


async def test_what_an_earlier_life_left_is_cleared(tmp_path: Path) -> None:
    spool = tmp_path / "state" / "spool"
    lost = tmp_path / "state" / "jobs" / "0000-1"
    for directory in (spool, lost):
        directory.mkdir(parents=True)
    (spool / "old.out").write_text("x")
    (spool / "link").symlink_to(tmp_path)
    (lost / "output.log").write_text("kept")
    async with running(tmp_path) as house:
        await house.open()

        assert list(spool.iterdir()) == []
        assert tmp_path.exists()
        record = json.loads((lost / "exit.json").read_text())
        assert (record["exit_code"], record["reason"]) == (-1, "lost")
        assert (lost / "output.log").read_text() == "kept"
        assert spool.parent.stat().st_mode & 0o777 == 0o700


async def test_the_secret_is_in_no_argument_and_no_environment(tmp_path: Path) -> None:
    environ = {"TOOLBOX_TOKEN": "s3cr3t"}
    async with running(tmp_path, environ) as house:
        keeper = await house.open()
        job = await keeper.spawn(sh("sleep 60"))

        for pid in (house.apis[0].pid, job.pid):
            for name in ("environ", "cmdline"):
                assert b"s3cr3t" not in Path(f"/proc/{pid}/{name}").read_bytes()


# -- PID 1, systemd ---------------------------------------------------------------


NAMESPACE = ("unshare", "-pf", "--mount-proc", "--kill-child")


def keeper_in(house: House) -> int:
    """Return the keeper's pid as seen from here: unshare, then init, then keeper."""
    init = int(Path(f"/proc/{house.pid}/task/{house.pid}/children").read_text())
    return int(Path(f"/proc/{init}/task/{init}/children").read_text().split()[0])


@pytest.fixture
def namespaces() -> None:
    """Skip, loudly, where there are no namespaces at all."""
    if os.geteuid() != 0:
        pytest.skip("pid namespaces need root here")


@pytest.mark.root
@pytest.mark.usefixtures("namespaces")
async def test_as_pid_1_orphans_are_reaped_and_exit_codes_right(tmp_path: Path) -> None:
    async with running(tmp_path, before=NAMESPACE) as house:
        keeper = await house.open()
        codes = await asyncio.gather(
            *(keeper.run(sh("(setsid true &); (true &); exit 7")) for _ in range(200))
        )
        assert [result.exit_code for result in codes] == [7] * 200
        listing = await keeper.run(sh("ps -eo pid=,ppid=,stat=,comm="))

        rows = [line.split() for line in listing.output.decode().splitlines()]
        assert [row for row in rows if row[2].startswith("Z")] == []
        assert rows[0][0] == "1"
        # The keeper is a child of the init that stayed behind.
        assert rows[1][1] == "1"


@pytest.mark.root
@pytest.mark.usefixtures("namespaces")
async def test_as_pid_1_signals_are_passed_on_and_all_is_ended(tmp_path: Path) -> None:
    async with running(tmp_path, before=NAMESPACE) as house:
        api, keeper = await both(house)
        job = await keeper.spawn(
            sh(
                "trap 'echo bye; exit' TERM; echo up; while :; do sleep 0.05; done",
                kept=True,
            )
        )
        async with keeper.subscribe(job.id) as output:
            await anext(output)
        init = int(Path(f"/proc/{house.pid}/task/{house.pid}/children").read_text())
        os.kill(init, signal.SIGTERM)
        await follow_the_stop(keeper, api)

        assert await house.exit_code() == 0
        assert (Path(str(job.directory)) / "output.log").read_text().endswith("bye\n")


@pytest.mark.root
@pytest.mark.usefixtures("namespaces")
async def test_as_pid_1_a_killed_keeper_is_told_by_the_exit_code(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, before=NAMESPACE) as house:
        await house.open()
        os.kill(keeper_in(house), signal.SIGKILL)

        assert await house.exit_code() == 137
        assert tagged(TAG, house.tag) == set()


class Manager:
    """A service manager that takes notes."""

    def __init__(self, address: str) -> None:
        self._line = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._line.bind(address)
        self._line.settimeout(8)

    async def next(self) -> list[str]:
        """Wait for the next notification."""
        return (await asyncio.to_thread(self._line.recv, 4096)).decode().split("\n")

    def close(self) -> None:
        """Stop listening."""
        self._line.close()


@pytest.mark.parametrize("abstract", [False, True])
async def test_the_service_manager_is_told(tmp_path: Path, *, abstract: bool) -> None:
    name = f"keeper-notify-{os.getpid()}"
    address = f"\0{name}" if abstract else str(tmp_path / "notify")
    manager = Manager(address)
    given = f"@{name}" if abstract else address
    async with running(tmp_path, {"NOTIFY_SOCKET": given}) as house:
        api = await house.next_api()
        keeper = await api.open(ready=False)
        await keeper.ready()
        assert "READY=1" in await manager.next()
        house.stop()
        assert "STOPPING=1" in await manager.next()
        await follow_the_stop(keeper, api)
        assert await house.exit_code() == 0
    manager.close()


async def test_the_watchdog_is_fed_and_replaces_an_api_that_hangs(
    tmp_path: Path,
) -> None:
    manager = Manager(str(tmp_path / "notify"))
    environ = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "600000"}
    async with running(tmp_path, environ) as house:
        api, keeper = await both(house)
        job = await keeper.spawn(sh("sleep 60"))
        told = [await manager.next() for _ in range(6)]
        # The client answers by itself for as long as its loop turns.
        assert alive(api.pid)
        assert told.count(["WATCHDOG=1"]) >= 4
        assert keeper._transport is not None
        keeper._transport.pause_reading()

        _, second = await both(house)

        assert second.generation == 2
        assert not alive(api.pid)
        assert (await second.info(job.id)).state == "running"
    manager.close()


async def test_another_process_s_watchdog_is_not_ours(tmp_path: Path) -> None:
    manager = Manager(str(tmp_path / "notify"))
    environ = {
        "NOTIFY_SOCKET": str(tmp_path / "notify"),
        "WATCHDOG_USEC": "100000",
        "WATCHDOG_PID": "1",
    }
    async with running(tmp_path, environ) as house:
        api, keeper = await both(house)
        assert "READY=1" in await manager.next()
        await keeper.run(sh("sleep 0.5"))
        house.stop()

        assert "STOPPING=1" in await manager.next()
        await follow_the_stop(keeper, api)
        assert await house.exit_code() == 0
    manager.close()


# -- thrift -----------------------------------------------------------------------


def ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return int(fields[11]) + int(fields[12])


def wakeups(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("voluntary_ctxt_switches"):
            return int(line.split()[1])
    raise AssertionError(pid)


async def test_an_idle_keeper_does_not_wake_up(house: House) -> None:
    _, keeper = await both(house)
    await keeper.run(sh("sleep 0.2 & echo x"))
    job = await keeper.spawn(Spec(argv=["cat"], output="pty"))
    await keeper.run(sh("sleep 0.6"))
    # What came after the answer is done, too; the timeline is stored when it is read.
    await KeptEvents(keeper).read(0)
    await asyncio.sleep(0.2)
    before = (ticks(house.pid), wakeups(house.pid))

    # Doing nothing for a while is what is tested.
    await asyncio.sleep(2)

    assert (ticks(house.pid), wakeups(house.pid)) == before
    assert alive(job.pid)


async def test_the_keeper_imports_little_and_starts_quickly(house: House) -> None:
    await both(house)
    code = (
        "import sys; import agent.keeper.main;"
        "print([m for m in ('asyncio','subprocess','logging','aiohttp','msgspec',"
        "'psutil','ssl','traceback') if m in sys.modules])"
    )
    probe = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        code,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, **measuring(on=False)},
    )
    loaded, _ = await probe.communicate()

    assert loaded == b"[]\n"


def resident(pid: int) -> int:
    """Return the proportional set size, in KiB."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise AssertionError(pid)


@pytest.mark.timeout(60)
async def test_a_gigabyte_of_output_costs_no_memory(house: House) -> None:
    _, keeper = await both(house)
    await keeper.run(sh("head -c 2000000 /dev/zero", max_bytes=1_000_000))
    before = resident(house.pid)

    result = await keeper.run(sh("head -c 1G /dev/zero", max_bytes=8 * 1024 * 1024))
    job = await keeper.spawn(
        sh("head -c 200M /dev/zero", kept=True, max_bytes=300 << 20)
    )
    size = 0
    async with keeper.subscribe(job.id) as output:
        async for chunk in output:
            size += len(chunk.data)

    assert result.total_bytes == 1 << 30
    assert size == 200 << 20
    assert resident(house.pid) - before < 4096


# -- a full disk ------------------------------------------------------------------


@pytest.fixture
async def tiny(tmp_path: Path) -> Path:
    """Mount a file system of a MiB as state directory."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    return state


@pytest.mark.root
async def test_a_full_disk_loses_output_but_never_the_end(
    tmp_path: Path, tiny: Path
) -> None:
    mount = await asyncio.create_subprocess_exec(
        "mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs", str(tiny)
    )
    assert await mount.wait() == 0
    try:
        async with running(tmp_path) as house:
            _, keeper = await both(house)
            kept = await keeper.spawn(sh("head -c 5M /dev/zero; exit 5", kept=True))
            assert (await keeper.wait(kept.id)).exit_code == 5
            info = await keeper.info(kept.id)
            assert info.output_bytes == 5 << 20
            assert 0 < info.stored_bytes < 1 << 20
            assert info.dropped_bytes == info.output_bytes - info.stored_bytes

            result = await keeper.run(sh("head -c 5M /dev/zero; exit 6"))
            assert result.exit_code == 6
            assert result.total_bytes == 5 << 20
            assert result.dropped_bytes >= 4 << 20
            assert len(result.output) == result.total_bytes - result.dropped_bytes
            async with keeper.subscribe(kept.id) as output:
                stored = sum([len(chunk.data) async for chunk in output])
            assert stored == info.stored_bytes
            again = await keeper.spawn(sh("echo x; exit 7", kept=True))
            assert (await keeper.wait(again.id)).exit_code == 7
            await keeper.forget(kept.id)
            assert len((await keeper.run(sh("seq 1 100000"))).output) == 0
    finally:
        unmount = await asyncio.create_subprocess_exec("umount", "-l", str(tiny))
        assert await unmount.wait() == 0
