"""Commands that are answered as a whole."""
# ruff: noqa: ASYNC240 - small local files, in a loop that serves nobody else

import asyncio
import errno
import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from agent.errors import ConflictError, InvalidRequestError, TooLargeError, TooManyError
from agent.keeper.client import Keeper, RunResult, Spec
from tests.keeper.harness import MIB, House, below, gone, running
from tests.support.processes import alive

GLIBCS_OWN = 0b11 << 31
"""Signals 32 and 33, which its posix_spawn leaves ignored (nptl's cancel and setxid)."""


def sh(text: str, **more: object) -> Spec:
    return Spec(argv=["/bin/sh", "-c", text], **more)  # type: ignore[arg-type] # each test's own


def content(result: RunResult) -> bytes:
    """Return what was kept of an output, in order."""
    if result.spool is None:
        return result.output
    whole = Path(result.spool.path).read_bytes()
    return b"".join(whole[start:end] for start, end in result.spool.ranges)


async def test_output_and_exit_code_come_back(keeper: Keeper) -> None:
    result = await keeper.run(sh("printf out; printf err >&2; exit 7"))

    assert (result.exit_code, result.reason, result.signal) == (7, "exited", 0)
    assert result.output == b"outerr"
    assert result.total_bytes == 6
    assert result.dropped_bytes == 0


async def test_both_outputs_keep_their_true_order(keeper: Keeper) -> None:
    lines = "; ".join(f"echo {i}; echo {i} >&2" for i in range(200))

    result = await keeper.run(sh(lines))

    assert result.output.split() == [b"%d" % (i // 2) for i in range(400)]


async def test_no_exit_code_is_ever_lost(keeper: Keeper) -> None:
    results = await asyncio.gather(*(keeper.run(sh("exit 7")) for _ in range(500)))

    assert [result.exit_code for result in results] == [7] * 500


async def test_a_signal_is_told_as_128_and_its_number(keeper: Keeper) -> None:
    result = await keeper.run(sh("kill -9 $$"))

    assert (result.exit_code, result.signal, result.reason) == (137, 9, "signalled")


async def test_a_background_child_lives_on_with_a_working_stdout(
    keeper: Keeper, house: House
) -> None:
    # What it writes is more than a pipe holds; each piece is told of once it is written.
    told = house.work_dir / "told"
    os.mkfifo(told)

    result = await keeper.run(
        sh(f"(while head -c 8192 /dev/zero; do echo $$ > {told}; done) & echo hi")
    )

    assert result.output.startswith(b"hi\n") or result.output.endswith(b"hi\n")
    for _ in range(40):
        assert await asyncio.to_thread(told.read_text)
    assert below(house)


async def test_a_sleeping_child_does_not_hold_up_the_answer(keeper: Keeper) -> None:
    started = time.monotonic()

    result = await keeper.run(sh("sleep 60 & echo $!"))

    assert time.monotonic() - started < 1
    assert alive(int(result.output))


async def test_what_was_written_before_the_exit_is_never_missing(
    keeper: Keeper,
) -> None:
    # The child of the shell keeps the pipe open, so no end of file tells of the end.
    results = await asyncio.gather(
        *(keeper.run(sh("sleep 60 & seq 1 20000")) for _ in range(10))
    )

    expected = b"".join(b"%d\n" % i for i in range(1, 20001))
    assert all(result.output == expected for result in results)


@pytest.mark.parametrize("command", ["cat", "python3 -c 'input()'", "read x"])
async def test_what_reads_standard_input_ends_at_once(
    keeper: Keeper, command: str
) -> None:
    async with asyncio.timeout(5):
        result = await keeper.run(sh(f"{command}; readlink /proc/self/fd/0"))

    assert result.output.endswith(b"/dev/null\n")


async def test_a_child_has_three_descriptors_and_default_signals(
    keeper: Keeper,
) -> None:
    result = await keeper.run(
        Spec(argv=["/bin/sh", "-c", "ls /proc/self/fd; grep Sig /proc/self/status"])
    )

    # The fourth is the directory that `ls` itself reads.
    lines = result.output.decode().split()
    assert lines[:4] == ["0", "1", "2", "3"]
    masks = dict(zip(lines[4::2], lines[5::2], strict=True))
    assert int(masks["SigBlk:"], 16) == 0
    assert int(masks["SigIgn:"], 16) & ~GLIBCS_OWN == 0


async def test_a_child_leads_its_own_session(keeper: Keeper) -> None:
    result = await keeper.run(sh("echo $$; cut -d' ' -f 5,6 /proc/$$/stat"))

    pid, group, session = result.output.split()
    assert pid == group == session


async def test_a_child_is_the_better_choice_for_the_oom_killer(keeper: Keeper) -> None:
    result = await keeper.run(
        sh("cat /proc/self/oom_score_adj; sh -c 'cat /proc/self/oom_score_adj; nice'")
    )

    own, grandchild, niceness = map(int, result.output.split())
    assert own == grandchild >= 100
    assert niceness == os.nice(0)


def may_lower_scores() -> bool:
    """Return whether this user may make processes dearer to the kernel (CAP_SYS_RESOURCE)."""
    line = next(
        line
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("CapEff")
    )
    return bool(int(line.split()[1], 16) >> 24 & 1)


async def test_the_keeper_protects_itself(keeper: Keeper, house: House) -> None:
    score = int(Path(f"/proc/{house.pid}/oom_score_adj").read_text())
    limits = Path(f"/proc/{house.pid}/limits").read_text()

    assert score == -900 or not may_lower_scores()
    assert "Max core file size        0 " in limits
    # The files of a process that is not dumpable belong to root.
    assert Path(f"/proc/{house.pid}/environ").stat().st_uid == 0
    assert keeper.generation == 1


async def test_the_environment_is_the_base_and_the_jobs_own(tmp_path: Path) -> None:
    given = {
        "KEPT": "yes",
        "TOOLBOX_TOKEN": "secret",
        "TOOLBOX_PORT": "1",
        "NOTIFY_SOCKET": "/nowhere",
        "WATCHDOG_PID": "1",
        "LISTEN_FDS": "1",
    }
    async with running(tmp_path, given) as house:
        keeper = await house.open()
        result = await keeper.run(Spec(argv=["env"], env={"OWN": "1", "HOME": "/own"}))

        lines = dict(line.split("=", 1) for line in result.output.decode().splitlines())
        assert lines["KEPT"] == "yes"
        assert lines["OWN"] == "1"
        assert lines["HOME"] == "/own"
        assert lines.pop("TOOLBOX_OWNER").startswith("job:")
        hidden = ("TOOLBOX_", "NOTIFY_", "WATCHDOG_", "LISTEN_")
        assert not [name for name in lines if name.startswith(hidden)]
        environ = Path(f"/proc/{house.apis[0].pid}/environ").read_bytes()
        assert b"secret" not in environ


async def test_the_base_environment_can_be_replaced(keeper: Keeper) -> None:
    base = await keeper.environment()

    await keeper.set_environment({"PATH": base["PATH"], "NEW": "ü\udcff"})
    result = await keeper.run(Spec(argv=["env"]))

    lines = sorted(result.output.splitlines())
    assert lines[0] == b"NEW=\xc3\xbc\xff"
    assert lines[1].startswith(b"PATH=")
    assert lines[2].startswith(b"TOOLBOX_OWNER=job:")
    assert len(lines) == 3
    assert (await keeper.environment())["NEW"] == "ü\udcff"


async def test_a_relative_directory_is_below_the_work_dir(
    keeper: Keeper, house: House
) -> None:
    (house.work_dir / "below").mkdir()

    results = [await keeper.run(Spec(argv=["pwd"], cwd=cwd)) for cwd in (None, "below")]

    assert results[0].output.decode() == f"{house.work_dir}\n"
    assert results[1].output.decode() == f"{house.work_dir}/below\n"


async def test_a_missing_directory_is_a_result_that_says_so(keeper: Keeper) -> None:
    result = await keeper.run(Spec(argv=["true"], cwd="/nope"))

    assert (result.exit_code, result.reason) == (-1, "start-failed")
    assert result.error == "chdir /nope: no such file or directory"
    assert result.errno == errno.ENOENT


async def test_a_missing_program_is_a_result_that_says_so(keeper: Keeper) -> None:
    result = await keeper.run(Spec(argv=["/no/such/program"]))

    assert (result.exit_code, result.reason) == (-1, "start-failed")
    assert result.error == "exec /no/such/program: no such file or directory"


async def test_a_program_is_searched_on_the_path_that_the_job_has(
    keeper: Keeper, house: House
) -> None:
    program = house.work_dir / "mine"
    program.write_text("#!/bin/sh\necho found\n")
    program.chmod(0o755)

    result = await keeper.run(Spec(argv=["mine"], env={"PATH": str(house.work_dir)}))

    assert result.output == b"found\n"


async def test_arguments_need_not_be_unicode(keeper: Keeper) -> None:
    result = await keeper.run(Spec(argv=["printf", "%s", b"a\xff\xfe"]))

    assert result.output == b"a\xff\xfe"


async def test_a_nul_character_is_refused(keeper: Keeper) -> None:
    with pytest.raises(InvalidRequestError):
        await keeper.run(Spec(argv=["echo", "a\0b"]))
    with pytest.raises(InvalidRequestError):
        await keeper.run(Spec(argv=["echo"], env={"A": "\0"}))


async def test_a_header_past_its_limit_is_refused_and_the_line_goes_on(
    keeper: Keeper,
) -> None:
    with pytest.raises(TooLargeError):
        await keeper.run(Spec(argv=["echo", "x" * (2 * MIB)]))

    assert (await keeper.run(sh("echo on"))).output == b"on\n"


async def test_a_script_of_megabytes_runs_and_leaves_no_file(
    keeper: Keeper, house: House
) -> None:
    script = b": " + b"x" * (5 * MIB) + b"\nstat -c %a $0; echo $#; echo done\n"

    result = await keeper.run(Spec(argv=["/bin/sh"], script=script))

    assert result.output == b"600\n0\ndone\n"
    assert list((house.state / "spool").iterdir()) == []


async def test_a_long_output_is_spooled_whole(keeper: Keeper, house: House) -> None:
    result = await keeper.run(sh("seq 1 200000"))

    assert content(result) == b"".join(b"%d\n" % i for i in range(1, 200001))
    assert result.dropped_bytes == 0
    assert result.spool is not None
    assert Path(result.spool.path).stat().st_mode & 0o777 == 0o600
    await keeper.forget(result.job_id)
    assert list((house.state / "spool").iterdir()) == []


@pytest.mark.parametrize("bound", [1, 2, 1000, 300_001, 1_000_000])
async def test_past_the_bound_head_and_tail_are_kept(
    keeper: Keeper, bound: int
) -> None:
    result = await keeper.run(sh("seq 1 200000", max_bytes=bound))

    whole = b"".join(b"%d\n" % i for i in range(1, 200001))
    head, tail = bound - bound // 2, bound // 2
    assert content(result) == whole[:head] + (whole[-tail:] if tail else b"")
    assert result.dropped_bytes == len(whole) - bound
    assert result.spool is not None
    assert Path(result.spool.path).stat().st_size <= bound


async def test_a_time_limit_ends_the_whole_tree_in_time(
    keeper: Keeper, house: House
) -> None:
    pids = house.work_dir / "pids"
    # Ignores TERM, in sessions of its own, twice forked, and holding the pipe.
    command = f"""
        trap '' TERM HUP INT
        echo $$ >> {pids}
        setsid sh -c 'trap "" TERM; echo $$ >> {pids}; sleep 97; sleep 97' &
        (setsid sh -c '(echo $$ >> {pids}; exec sleep 98) & sleep 98' &)
        (env -i setsid sh -c 'echo $$ >> {pids}; sleep 99; sleep 99' &)
        while :; do sleep 96; done
    """
    started = time.monotonic()

    result = await keeper.run(sh(command, timeout_s=1))

    took = time.monotonic() - started
    assert (result.reason, result.exit_code) == ("timeout", 137)
    assert 1 <= took < 1.8
    assert len(pids.read_text().split()) == 4
    assert below(house) == set()


async def test_output_until_the_time_limit_is_kept(keeper: Keeper) -> None:
    result = await keeper.run(sh("echo before; sleep 60", timeout_s=0.3))

    assert result.output == b"before\n"
    assert result.reason == "timeout"


async def test_no_time_limit_hits_what_ended_before(keeper: Keeper) -> None:
    result = await keeper.run(sh("sleep 60 & echo $!", timeout_s=0.5))
    later = await keeper.run(sh("sleep 1"))

    assert result.reason == later.reason == "exited"
    assert alive(int(result.output))


async def test_a_command_outlives_its_caller(keeper: Keeper, house: House) -> None:
    gate = house.work_dir / "gate"
    os.mkfifo(gate)
    call = asyncio.create_task(
        keeper.run(sh(f"echo $$ > {gate}; cat {gate} > end; seq 1 200000"))
    )
    pid = int(await asyncio.to_thread(gate.read_text))

    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    assert alive(pid)
    await asyncio.to_thread(gate.write_text, "on")
    assert await gone(pid)

    assert (house.work_dir / "end").read_text() == "on"
    assert (await keeper.run(sh("echo on"))).output == b"on\n"
    # The spool that nobody waits for any more goes too.
    await keeper.stats()
    assert list((house.state / "spool").iterdir()) == []


async def test_more_than_allowed_at_once_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path, max_commands=2) as house:
        keeper = await house.open()
        jobs = [await keeper.spawn(sh("sleep 60")) for _ in range(2)]

        with pytest.raises(TooManyError):
            await keeper.run(sh("echo no"))

        await keeper.end(jobs[0].id, 0)
        await keeper.wait(jobs[0].id)
        assert (await keeper.run(sh("echo yes"))).output == b"yes\n"


async def test_nothing_is_left_of_a_thousand_runs(keeper: Keeper, house: House) -> None:
    before = await keeper.stats()
    inodes = set(Path(f"/proc/{house.pid}/fd").iterdir())
    for _ in range(40):
        results = await asyncio.gather(*(keeper.run(sh("echo x")) for _ in range(25)))
        assert {result.output for result in results} == {b"x\n"}

    after = await keeper.stats()

    for name in ("fds", "watched_fds", "jobs", "running", "memory_bytes"):
        assert after[name] == before[name], name
    assert set(Path(f"/proc/{house.pid}/fd").iterdir()) == inodes
    assert below(house) == set()


async def test_a_forgotten_state_directory_is_made_again(
    keeper: Keeper, house: House
) -> None:
    shutil.rmtree(house.state)

    result = await keeper.run(sh("seq 1 200000"))

    assert len(content(result)) == 1288895
    assert house.state.stat().st_mode & 0o777 == 0o700


async def test_a_running_job_is_not_forgotten(keeper: Keeper) -> None:
    job = await keeper.spawn(sh("sleep 60"))

    with pytest.raises(ConflictError):
        await keeper.forget(job.id)

    await keeper.signal(job.id, signal.SIGKILL)
    assert (await keeper.wait(job.id)).signal == signal.SIGKILL
    await keeper.forget(job.id)
    assert await keeper.list() == ()


async def test_what_is_said_on_the_control_pipe_is_no_output(keeper: Keeper) -> None:
    text = "printf out; printf said >&3; printf err >&2"

    with_it = await keeper.run(sh(text, control=True))
    without = await keeper.run(sh("(: >&3) 2>/dev/null || echo closed"))

    assert (with_it.output, with_it.control) == (b"outerr", b"said")
    assert (without.output, without.control) == (b"closed\n", b"")
    job = await keeper.spawn(sh(text, control=True, output="split"))
    async with keeper.subscribe(job.id) as output:
        chunks = [(each.stream, each.data) async for each in output]
    assert sorted(chunks) == [(1, b"out"), (2, b"err"), (3, b"said")]
    await keeper.forget(job.id)


async def test_a_long_output_comes_with_what_was_said_beside_it(keeper: Keeper) -> None:
    text = "head -c 3000000 /dev/zero; head -c 2000000 /dev/zero >&3"

    result = await keeper.run(sh(text, control=True))

    assert result.control == bytes(2_000_000)
    assert len(content(result)) == result.total_bytes == 3_000_000
    await keeper.forget(result.job_id)
