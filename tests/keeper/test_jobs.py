"""Jobs that stay: their input, their end, their logs, their followers."""
# ruff: noqa: ASYNC240 - small local files, in a loop that serves nobody else

import asyncio
import json
import os
import signal
import time
from pathlib import Path

import pytest

from agent.errors import (
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    TooLargeError,
)
from agent.keeper.client import (
    UNSEEN,
    Chunk,
    Exit,
    Job,
    Keeper,
    Spec,
    StartError,
)
from agent.keeper.logs import INDEX
from tests.keeper.harness import MIB, House, below, gone
from tests.support.processes import alive


def sh(text: str, **more: object) -> Spec:
    return Spec(argv=["/bin/sh", "-c", text], **more)  # type: ignore[arg-type] # each test's own


async def all_of(keeper: Keeper, job: Job, offset: int = 0) -> list[Chunk]:
    """Follow a job from an offset to its end."""
    async with keeper.subscribe(job.id, offset) as output:
        return [chunk async for chunk in output]


def joined(chunks: list[Chunk], stream: int | None = None) -> bytes:
    return b"".join(chunk.data for chunk in chunks if stream in {None, chunk.stream})


async def first_bytes(keeper: Keeper, job: Job, size: int) -> bytes:
    """Follow a job until it has written so much."""
    content = b""
    async with keeper.subscribe(job.id) as output:
        async for chunk in output:
            content += chunk.data
            if len(content) >= size:
                break
    return content


# -- life -------------------------------------------------------------------------


async def test_a_job_is_told_of_from_its_start_to_its_end(keeper: Keeper) -> None:
    job = await keeper.spawn(sh("read x; exit 3", stdin="pipe", kind="k", label="l"))

    assert (job.state, job.kind, job.label, job.exit) == ("running", "k", "l", None)
    assert alive(job.pid)
    assert await keeper.list() == (await keeper.info(job.id),)
    await keeper.write(job.id, b"on\n")
    ended = await keeper.wait(job.id)
    assert (ended.exit_code, ended.reason) == (3, "exited")
    assert (await keeper.info(job.id)).exit == ended
    await keeper.forget(job.id)
    with pytest.raises(NotFoundError):
        await keeper.info(job.id)


async def test_many_may_wait_for_one_end_and_some_may_leave(keeper: Keeper) -> None:
    job = await keeper.spawn(sh("read x; exit 5", stdin="pipe"))
    calls = [asyncio.create_task(keeper.wait(job.id)) for _ in range(5)]
    await keeper.stats()

    calls[0].cancel()
    await keeper.close_stdin(job.id)

    ends = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(ends[0], asyncio.CancelledError)
    assert all(isinstance(end, Exit) and end.exit_code == 5 for end in ends[1:])


async def test_a_start_that_fails_says_why_and_leaves_nothing(
    keeper: Keeper, house: House
) -> None:
    with pytest.raises(StartError, match=r"^chdir /nope: no such file or directory$"):
        await keeper.spawn(sh("true", cwd="/nope", kept=True))

    assert await keeper.list() == ()
    assert list((house.state / "jobs").iterdir()) == []


async def test_a_kept_job_has_its_log_index_and_end_on_disk(
    keeper: Keeper, house: House
) -> None:
    job = await keeper.spawn(
        sh("echo a; sleep 0.05; echo b >&2; exit 4", output="split", kept=True)
    )
    ended = await keeper.wait(job.id)
    await all_of(keeper, job)

    directory = house.state / "jobs" / job.id
    assert job.directory == str(directory)
    assert (directory / "output.log").read_bytes() == b"a\nb\n"
    records = list(INDEX.iter_unpack((directory / "index").read_bytes()))
    assert [(offset, stream) for offset, _, stream in records] == [(0, 1), (2, 2)]
    told = json.loads((directory / "exit.json").read_text())
    assert (told["exit_code"], told["reason"]) == (4, "exited")
    assert told["ended"] == ended.ended
    assert {path.stat().st_mode & 0o777 for path in directory.iterdir()} == {0o600}
    assert directory.stat().st_mode & 0o777 == 0o700
    await keeper.forget(job.id)
    assert not directory.exists()


async def test_the_end_is_told_only_when_all_output_is_stored(keeper: Keeper) -> None:
    async def once() -> bool:
        job = await keeper.spawn(sh("seq 1 2000", kept=True))
        await keeper.wait(job.id)
        content = Path(f"{job.directory}/output.log").read_bytes()
        await keeper.forget(job.id)
        return content.count(b"\n") == 2000

    assert all(await asyncio.gather(*(once() for _ in range(200))))


async def test_survivors_write_into_the_log_of_a_kept_job(
    keeper: Keeper, house: House
) -> None:
    os.mkfifo(house.work_dir / "gate")
    job = await keeper.spawn(sh("(read x < gate; echo late) & echo early", kept=True))
    assert (await keeper.wait(job.id)).exit_code == 0
    assert (await keeper.info(job.id)).state == "finished"
    follower = asyncio.create_task(all_of(keeper, job))

    await asyncio.to_thread((house.work_dir / "gate").write_text, "on\n")

    assert joined(await follower) == b"early\nlate\n"
    assert (await keeper.info(job.id)).state == "closed"


# -- input ------------------------------------------------------------------------


async def test_input_arrives_in_order_and_ends_when_told(keeper: Keeper) -> None:
    job = await keeper.spawn(Spec(argv=["cat"], stdin="pipe"))

    for piece in (b"one ", b"two ", b"three"):
        await keeper.write(job.id, piece)
    await keeper.close_stdin(job.id)

    assert (await keeper.wait(job.id)).exit_code == 0
    assert joined(await all_of(keeper, job)) == b"one two three"
    with pytest.raises(ConflictError):
        await keeper.write(job.id, b"more")


async def test_input_that_is_not_read_is_bounded(keeper: Keeper) -> None:
    job = await keeper.spawn(sh("read x; exec cat | wc -c", stdin="pipe"))

    # 64 KiB fit the pipe, besides the MiB that is queued.
    await keeper.write(job.id, b"x" * MIB)
    await keeper.write(job.id, b"y" * (MIB // 32))
    with pytest.raises(TooLargeError):
        await keeper.write(job.id, b"z" * MIB)

    await keeper.write(job.id, b"\n" + b"w" * 100)
    await keeper.close_stdin(job.id)
    await keeper.wait(job.id)
    assert joined(await all_of(keeper, job)) == b"100\n"


async def test_input_that_nobody_reads_any_more_is_refused(keeper: Keeper) -> None:
    job = await keeper.spawn(sh("exec 0<&-; echo closed; sleep 60", stdin="pipe"))
    await first_bytes(keeper, job, 7)

    await keeper.write(job.id, b"x")
    with pytest.raises(ConflictError):
        await keeper.write(job.id, b"x")


async def test_a_job_without_input_takes_none(keeper: Keeper) -> None:
    job = await keeper.spawn(sh("sleep 60"))

    with pytest.raises(ConflictError):
        await keeper.write(job.id, b"x")
    with pytest.raises(ConflictError):
        await keeper.resize(job.id, 1, 1)


# -- ending -----------------------------------------------------------------------


async def test_ending_asks_first_and_returns_as_soon_as_all_are_gone(
    keeper: Keeper,
) -> None:
    job = await keeper.spawn(
        sh("trap 'echo bye; exit 9' TERM; echo up; sleep 60 & wait")
    )
    await first_bytes(keeper, job, 3)
    started = time.monotonic()

    assert await keeper.end(job.id, 5) == 0

    assert time.monotonic() - started < 1
    ended = await keeper.wait(job.id)
    assert (ended.exit_code, ended.reason) == (9, "deleted")
    assert joined(await all_of(keeper, job)) == b"up\nbye\n"


async def test_a_trap_runs_once(keeper: Keeper) -> None:
    job = await keeper.spawn(
        sh("trap 'echo asked' TERM; echo up; while :; do sleep 60 & wait; done")
    )
    await first_bytes(keeper, job, 3)

    await keeper.end(job.id, 0.3)

    assert joined(await all_of(keeper, job)) == b"up\nasked\n"


async def test_what_ignores_the_asking_is_killed_after_the_grace_time(
    keeper: Keeper, house: House
) -> None:
    job = await keeper.spawn(
        sh(
            "trap '' TERM HUP;"
            " setsid sh -c 'while :; do sleep 60; done' &"
            " (setsid sh -c 'sleep 61; sleep 61' &);"
            " (nohup sleep 62 >/dev/null 2>&1 &);"
            " echo up; while :; do sleep 60; done"
        )
    )
    await first_bytes(keeper, job, 3)
    started = time.monotonic()

    assert await keeper.end(job.id, 0.5) == 0

    assert 0.5 <= time.monotonic() - started < 2
    assert below(house) == set()


async def test_ending_again_with_less_patience_hastens_it(keeper: Keeper) -> None:
    job = await keeper.spawn(sh("trap '' TERM; echo up; while :; do sleep 60; done"))
    await first_bytes(keeper, job, 3)
    started = time.monotonic()

    slow = asyncio.create_task(keeper.end(job.id, 5))
    await keeper.stats()
    await keeper.end(job.id, 0)

    assert await slow == 0
    assert time.monotonic() - started < 3


async def test_ending_a_job_that_has_ended_ends_its_survivors(
    keeper: Keeper, house: House
) -> None:
    job = await keeper.spawn(sh("(setsid sleep 60 &) ; sleep 61 & exit 2"))
    await keeper.wait(job.id)
    assert len(below(house)) == 2

    await keeper.end(job.id, 1)

    assert below(house) == set()
    assert (await keeper.wait(job.id)).reason == "exited"


async def test_ending_one_job_spares_the_others(keeper: Keeper) -> None:
    jobs = [await keeper.spawn(sh("sleep 60")) for _ in range(3)]

    await keeper.end(jobs[1].id, 0)

    assert [alive(job.pid) for job in jobs] == [True, False, True]


async def test_a_stopped_job_can_be_ended(keeper: Keeper) -> None:
    job = await keeper.spawn(sh("trap 'exit 8' TERM; echo up; while :; do :; done"))
    await first_bytes(keeper, job, 3)
    await keeper.signal(job.id, signal.SIGSTOP)

    await keeper.end(job.id, 3)

    assert (await keeper.wait(job.id)).exit_code == 8


async def test_a_tree_that_forks_while_it_is_killed_is_killed(
    keeper: Keeper, house: House
) -> None:
    # Each one replaces itself by a new one in a new session, as fast as it can.
    (house.work_dir / "hydra").write_text(
        "trap '' TERM HUP\necho >> heads\nsetsid /bin/sh hydra &\nsleep 0.02\nexit 0\n"
    )
    job = await keeper.spawn(sh("sh hydra & sh hydra & sh hydra & echo up; wait"))
    await first_bytes(keeper, job, 3)

    assert await keeper.end(job.id, 0.2) == 0

    assert below(house) == set()


async def test_a_signal_reaches_the_group_or_the_leader(keeper: Keeper) -> None:
    child = (
        "sh -c \"trap 'echo child; exit' USR1; echo up; while :; do sleep 0.01; done\""
    )
    job = await keeper.spawn(
        sh(f"trap 'echo leader' USR1; {child} & while wait; [ $? -gt 0 ]; do :; done")
    )
    await first_bytes(keeper, job, 3)

    await keeper.signal(job.id, signal.SIGUSR1, group=False)
    assert await first_bytes(keeper, job, 10) == b"up\nleader\n"
    await keeper.signal(job.id, signal.SIGUSR1)

    # Between them, what the shell says of a `sleep` of the group.
    async with keeper.subscribe(job.id, 10) as output:
        content = b""
        async for chunk in output:
            content += chunk.data
            if b"child\n" in content and b"leader\n" in content:
                break


async def test_no_signal_is_sent_once_the_job_has_ended(keeper: Keeper) -> None:
    job = await keeper.spawn(sh("exit 0"))
    await keeper.wait(job.id)

    with pytest.raises(ConflictError):
        await keeper.signal(job.id, signal.SIGKILL)


async def test_a_bad_signal_number_is_refused(keeper: Keeper) -> None:
    job = await keeper.spawn(sh("sleep 60"))

    for number in (-1, 65, 2**40):
        with pytest.raises(InvalidRequestError):
            await keeper.signal(job.id, number)
    assert alive(job.pid)


# -- followers --------------------------------------------------------------------


async def test_streams_are_told_apart_and_stay_in_order(keeper: Keeper) -> None:
    lines = "; ".join(f"echo {i} >&{1 + i % 2}; sleep 0.002" for i in range(60))
    job = await keeper.spawn(sh(lines, output="split", kept=True))

    chunks = await all_of(keeper, job)

    assert joined(chunks, 1).split() == [b"%d" % i for i in range(0, 60, 2)]
    assert joined(chunks, 2).split() == [b"%d" % i for i in range(1, 60, 2)]
    assert [chunk.offset for chunk in chunks[1:]] == [
        chunk.offset + len(chunk.data) for chunk in chunks[:-1]
    ]
    assert [chunk.time for chunk in chunks] == sorted(chunk.time for chunk in chunks)


async def test_a_follower_sees_output_as_it_is_written(keeper: Keeper) -> None:
    job = await keeper.spawn(Spec(argv=["cat"], stdin="pipe"))

    async with keeper.subscribe(job.id) as output:
        for i in range(50):
            await keeper.write(job.id, b"%d\n" % i)
            assert (await anext(output)).data == b"%d\n" % i
        await keeper.close_stdin(job.id)
        with pytest.raises(StopAsyncIteration):
            await anext(output)

    assert output.end is not None
    assert (output.end.reason, output.end.dropped_bytes) == ("finished", 0)


async def test_any_offset_goes_on_without_gap_or_duplicate(keeper: Keeper) -> None:
    job = await keeper.spawn(
        sh("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo $i; done", kept=True)
    )
    content, offset = b"", 0
    # Each time a new follower, which leaves after one piece.
    while True:
        async with keeper.subscribe(job.id, offset, window_bytes=5000) as output:
            async for chunk in output:
                assert chunk.offset == offset
                content += chunk.data
                offset += len(chunk.data)
                break
            else:
                break

    assert content == b"".join(b"%d\n" % i for i in range(1, 20001))


async def test_a_follower_may_begin_in_the_middle_of_a_choppy_log(
    keeper: Keeper,
) -> None:
    program = (
        "import os\n"
        "for i in range(3000):\n"
        "    os.write(1 + i % 2, b'%05d' % i)\n"
        "    os.read(0, 1)\n"
    )
    # A byte of input for each write, so that each is read by itself.
    job = await keeper.spawn(
        Spec(argv=["python3", "-c", program], output="split", stdin="pipe", kept=True)
    )
    async with keeper.subscribe(job.id) as output:
        async for chunk in output:
            await keeper.write(job.id, b"x" * (len(chunk.data) // 5))
            if chunk.offset + len(chunk.data) == 15000:
                break
    whole = await all_of(keeper, job)

    for offset in (1, 4, 5, 7777, 14999, 15000):
        chunks = await all_of(keeper, job, offset)
        assert joined(chunks) == joined(whole)[offset:]
        assert joined(chunks, 2) == b"".join(
            chunk.data[max(0, offset - chunk.offset) :]
            for chunk in whole
            if chunk.stream == 2
        )
    with pytest.raises(InvalidRequestError):
        await all_of(keeper, job, 15001)


async def test_from_now_on_leaves_out_what_was_before(keeper: Keeper) -> None:
    job = await keeper.spawn(sh("echo before; read x; echo after", stdin="pipe"))
    await first_bytes(keeper, job, 7)

    async with keeper.subscribe(job.id, -1) as output:
        await keeper.write(job.id, b"\n")
        assert [chunk.data async for chunk in output] == [b"after\n"]


async def test_a_slow_follower_harms_nobody(keeper: Keeper) -> None:
    size = 30 * MIB
    job = await keeper.spawn(sh(f"head -c {size} /dev/zero", kept=True))
    slow = keeper.subscribe(job.id, window_bytes=MIB)
    await slow.open()

    quick = await all_of(keeper, job)
    assert (await keeper.wait(job.id)).exit_code == 0

    assert len(joined(quick)) == size
    taken = 0
    async with slow:
        async for chunk in slow:
            assert chunk.offset == taken
            taken += len(chunk.data)
    assert taken == size


async def test_many_followers_each_get_everything(keeper: Keeper) -> None:
    job = await keeper.spawn(sh("seq 1 30000; sleep 0.1; seq 1 10", kept=True))
    expected = b"".join(b"%d\n" % i for i in [*range(1, 30001), *range(1, 11)])

    logs = await asyncio.gather(*(all_of(keeper, job) for _ in range(50)))

    assert all(joined(log) == expected for log in logs)
    assert (await keeper.stats())["subscriptions"] == 0


async def test_output_past_the_bound_is_counted(keeper: Keeper) -> None:
    job = await keeper.spawn(sh("seq 1 2000", kept=True, max_bytes=1000))

    async with keeper.subscribe(job.id) as output:
        content = b"".join([chunk.data async for chunk in output])

    whole = b"".join(b"%d\n" % i for i in range(1, 2001))
    assert content == whole[:1000]
    assert output.end is not None
    assert output.end.dropped_bytes == len(whole) - 1000
    assert (await keeper.wait(job.id)).dropped_bytes == len(whole) - 1000


async def test_a_log_that_was_deleted_cannot_be_followed(
    keeper: Keeper, house: House
) -> None:
    job = await keeper.spawn(sh("echo x", kept=True))
    await keeper.wait(job.id)
    (house.state / "jobs" / job.id / "output.log").unlink()

    with pytest.raises(FileNotFoundError):
        await all_of(keeper, job)

    assert (await keeper.info(job.id)).subscribers == 0


async def test_a_follower_of_nothing_is_told_so(keeper: Keeper) -> None:
    with pytest.raises(NotFoundError):
        await keeper.subscribe("none").open()


async def test_forgetting_ends_the_followers(keeper: Keeper) -> None:
    job = await keeper.spawn(sh("sleep 60 & echo x"))
    await keeper.wait(job.id)
    async with keeper.subscribe(job.id) as output:
        assert (await anext(output)).data == b"x\n"
        await keeper.forget(job.id)
        with pytest.raises(StopAsyncIteration):
            await anext(output)

    assert output.end is not None
    assert output.end.reason == "forgotten"


# -- terminals --------------------------------------------------------------------


async def test_a_terminal_is_the_controlling_one(keeper: Keeper) -> None:
    job = await keeper.spawn(
        sh(
            "tty -s && stty size < /dev/tty && ps -o tty= -p $$",
            output="pty",
            rows=33,
            columns=101,
        )
    )

    content = joined(await all_of(keeper, job))

    assert content.splitlines()[0] == b"33 101"
    assert content.splitlines()[1].startswith(b"pts/")
    assert (await keeper.wait(job.id)).exit_code == 0


async def test_a_terminal_echoes_resizes_and_hears_interrupts(keeper: Keeper) -> None:
    job = await keeper.spawn(
        sh(
            "trap 'stty size' WINCH; echo up; while :; do sleep 0.02; done",
            output="pty",
        )
    )
    await first_bytes(keeper, job, 4)

    await keeper.resize(job.id, 50, 120)
    assert (await first_bytes(keeper, job, 12)).endswith(b"50 120\r\n")
    await keeper.write(job.id, b"\x03")

    ended = await keeper.wait(job.id)
    assert ended.signal == signal.SIGINT
    info = await keeper.info(job.id)
    assert (info.rows, info.columns) == (50, 120)
    assert b"^C" in joined(await all_of(keeper, job))


async def test_a_terminals_end_of_input_ends_its_reader(keeper: Keeper) -> None:
    job = await keeper.spawn(Spec(argv=["cat"], output="pty"))
    await keeper.write(job.id, b"line\n")
    await first_bytes(keeper, job, 12)

    await keeper.close_stdin(job.id)

    assert (await keeper.wait(job.id)).exit_code == 0


async def test_an_interactive_shell_ends_when_asked(keeper: Keeper) -> None:
    job = await keeper.spawn(Spec(argv=["bash", "--norc", "-i"], output="pty"))
    await first_bytes(keeper, job, 4)
    started = time.monotonic()

    await keeper.end(job.id, 5)

    assert time.monotonic() - started < 2
    assert await gone(job.pid)


async def test_a_terminal_remembers_its_last_output(keeper: Keeper) -> None:
    job = await keeper.spawn(sh("stty raw; seq 1 200000; echo end", output="pty"))
    await keeper.wait(job.id)
    whole = b"".join(b"%d\n" % i for i in range(1, 200001)) + b"end\n"

    async with keeper.subscribe(job.id) as output:
        content = b"".join([chunk.data async for chunk in output])

    assert output.first_offset == len(whole) - 256 * 1024
    assert content == whole[-256 * 1024 :]


async def test_a_terminal_waits_for_a_client_that_reads(keeper: Keeper) -> None:
    job = await keeper.spawn(sh("stty raw; read x; seq 1 300000", output="pty"))
    whole = b"".join(b"%d\n" % i for i in range(1, 300001))

    async with keeper.subscribe(job.id, -1, window_bytes=64 * 1024) as output:
        await keeper.write(job.id, b"\n")
        content = b"".join([chunk.data async for chunk in output])

    assert content.endswith(whole)


async def test_a_terminal_sends_away_a_client_that_does_not_read(
    keeper: Keeper,
) -> None:
    job = await keeper.spawn(sh("stty raw; read x; seq 1 300000", output="pty"))
    output = keeper.subscribe(job.id, -1, window_bytes=64 * 1024)
    started = time.monotonic()
    async with output:
        await keeper.write(job.id, b"\n")

        assert (await keeper.wait(job.id)).exit_code == 0

        assert 5 <= time.monotonic() - started < 9
        async for _ in output:
            pass
        assert output.end is not None
        assert output.end.reason == "slow"
        assert output.offset == output.end.offset


async def test_input_and_output_of_a_terminal_do_not_block_each_other(
    keeper: Keeper,
) -> None:
    job = await keeper.spawn(sh("stty raw -echo; echo up; exec cat", output="pty"))
    await first_bytes(keeper, job, 3)
    sent = os.urandom(300_000)

    async with keeper.subscribe(job.id, 3) as output:
        for start in range(0, len(sent), 50_000):
            await keeper.write(job.id, sent[start : start + 50_000])
        content = b""
        async for chunk in output:
            content += chunk.data
            if len(content) >= len(sent):
                break

    assert content == sent


async def test_a_terminal_goes_on_where_its_followers_have_left(
    keeper: Keeper,
) -> None:
    job = await keeper.spawn(sh("stty raw -echo; echo up; exec cat", output="pty"))
    async with keeper.subscribe(job.id, UNSEEN) as output:
        while output.offset < 3:
            await anext(output)
    await keeper.write(job.id, b"missed")

    async with keeper.subscribe(job.id, UNSEEN) as output:
        assert output.offset == 3
        content = b""
        while len(content) < 6:
            content += (await anext(output)).data
        async with keeper.subscribe(job.id, UNSEEN) as other:
            assert other.offset == 9

    assert content == b"missed"


async def test_a_follower_that_sets_its_offset_back_is_followed_from_there(
    keeper: Keeper,
) -> None:
    job = await keeper.spawn(sh("echo 12345678; read x", output="pty"))
    async with keeper.subscribe(job.id) as output:
        while output.offset < 10:
            await anext(output)
        output.offset = 3

    async with keeper.subscribe(job.id, UNSEEN) as output:
        assert output.offset == 3


async def test_a_follower_can_be_over_at_an_offset_though_the_job_goes_on(
    keeper: Keeper,
) -> None:
    job = await keeper.spawn(sh("echo one; read x", output="pty"))
    ends: list[str] = []
    async with keeper.subscribe(job.id) as output:
        output.on_end = lambda: ends.append("end")
        output.stop_at(5)
        content = b"".join([chunk.data async for chunk in output])

    assert content == b"one\r\n"
    assert output.end is None
    assert ends == []
