"""What a job may use: rlimits, and groups of the kernel where they can be made."""

import resource
import shutil
from pathlib import Path

import pytest

from agent.keeper.cgroup import LEAF, Groups
from agent.keeper.client import Keeper, Spec
from agent.keeper.limits import Limits
from agent.keeper.shapes import Limits as Asked
from tests.keeper.test_sessions import bash

MIB = 1024 * 1024

EATER = (
    "import sys\n"
    "a = []\n"
    "try:\n"
    "    for _ in range(400): a.append(bytearray(b'x' * 1048576))\n"
    "except MemoryError:\n"
    "    print('refused'); sys.exit(3)\n"
    "print('all')\n"
)


def can_group() -> bool:
    """Whether the machine lets us bound a tree."""
    limits = Limits()
    limits.memory_bytes = 64 * MIB
    groups = Groups()
    group = groups.create("probe", limits)
    if group is None:
        return False
    groups.drop(group)
    return True


def groups_left(job_id: str) -> list[Path]:
    return list(Path("/sys/fs/cgroup").glob(f"*/**/toolbox-job-{job_id}"))


def sh(text: str, **limits: int) -> Spec:
    return Spec(argv=["/bin/sh", "-c", text], limits=Asked(**limits))


async def test_open_files_are_bounded(keeper: Keeper) -> None:
    result = await keeper.run(sh("ulimit -n; ulimit -Hn", open_files=37))

    assert result.output.split() == [b"37", b"37"]


async def test_processor_time_is_bounded_and_told(keeper: Keeper) -> None:
    result = await keeper.run(sh("while :; do :; done", cpu_s=1))

    assert (result.reason, result.exit_code) == ("cpu-limit", 152)
    assert 0.8 < result.exit.user_s + result.exit.system_s < 2.5


async def test_a_bounded_job_is_started_as_any_other(keeper: Keeper) -> None:
    text = "printf out; printf said >&3; ps -o sid= -p $$; echo $$; exit 4"
    spec = Spec(
        argv=["/bin/sh", "-c", text], control=True, limits=Asked(open_files=100)
    )

    result = await keeper.run(spec)

    session, pid = result.output.removeprefix(b"out").split()
    assert session == pid
    assert (result.exit_code, result.control) == (4, b"said")


async def test_a_bounded_program_that_is_missing_says_so(keeper: Keeper) -> None:
    result = await keeper.run(
        Spec(argv=["/nonexistent/program"], limits=Asked(open_files=100))
    )

    assert (result.exit_code, result.reason) == (-1, "start-failed")
    assert "no such file" in result.error


async def test_a_bounded_terminal_works(keeper: Keeper) -> None:
    job = await keeper.spawn(
        Spec(
            argv=["/bin/sh", "-c", "tty; ulimit -n"],
            output="pty",
            limits=Asked(open_files=41),
        )
    )
    async with keeper.subscribe(job.id) as output:
        told = b"".join([chunk.data async for chunk in output])

    assert told.split()[0].startswith(b"/dev/pts/")
    assert told.split()[1] == b"41"
    await keeper.forget(job.id)


@pytest.mark.skipif(not can_group(), reason="no group of the kernel can be made here")
async def test_a_tree_that_takes_too_much_memory_is_killed(keeper: Keeper) -> None:
    result = await keeper.run(
        sh(f'python3 -c "{EATER}"; exit $?', memory_bytes=64 * MIB)
    )

    assert (result.reason, result.exit_code) == ("oom-killed", 137)
    assert 32 * MIB < result.exit.max_rss_bytes <= 65 * MIB
    assert not groups_left(result.job_id)


@pytest.mark.skipif(not can_group(), reason="no group of the kernel can be made here")
async def test_a_tree_may_have_so_many_processes(keeper: Keeper) -> None:
    text = "i=0; while [ $i -lt 50 ]; do sleep 5 & i=$((i+1)); done; echo all"

    result = await keeper.run(sh(f"({text}) 2>/dev/null; kill 0", processes=10))

    assert b"all" not in result.output


def test_without_groups_each_process_is_bounded() -> None:
    limits = Limits()
    limits.memory_bytes, limits.processes, limits.cpu_s = 100, 7, 3

    assert limits.rlimits(has_group=False) == [
        (resource.RLIMIT_CPU, 3, 5),
        (resource.RLIMIT_DATA, 100, 100),
        (resource.RLIMIT_NPROC, 7, 7),
    ]
    assert limits.rlimits(has_group=True) == [(resource.RLIMIT_CPU, 3, 5)]


async def test_a_commands_bounds_end_with_the_command(keeper: Keeper) -> None:
    shell = await bash(keeper)

    bounded = await shell.run("sh -c 'ulimit -Sn'", limits=Asked(open_files=33))
    free = await shell.run("sh -c 'ulimit -Sn'")

    assert bounded.out == b"33\n"
    assert int(free.out) > 33
    await shell.sessions.end("s1", 0)


async def test_a_command_may_be_refused_memory(keeper: Keeper) -> None:
    shell = await bash(keeper)

    bounded = await shell.run(
        f'python3 -c "{EATER}"', limits=Asked(memory_bytes=100 * MIB)
    )
    free = await shell.run(f'python3 -c "{EATER}"')

    assert (bounded.code, bounded.out) == (3, b"refused\n")
    assert (free.code, free.out) == (0, b"all\n")
    await shell.sessions.end("s1", 0)


async def test_a_command_may_be_refused_time(keeper: Keeper) -> None:
    shell = await bash(keeper)

    result = await shell.run("sh -c 'while :; do :; done'", limits=Asked(cpu_s=1))

    assert (result.code, result.how.reason) == (152, "cpu-limit")
    assert (await shell.run("echo still here")).out == b"still here\n"
    await shell.sessions.end("s1", 0)


# -- version 2, on a recorded tree: this machine's kernel may have version 1 only ----


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """Return a tree as version 2 has it; a plain directory takes what is written."""
    own = tmp_path / "cgroup" / "agent.service"
    own.mkdir(parents=True)
    (own.parent / "cgroup.controllers").write_text("cpu memory pids\n")
    for name, text in {
        "cgroup.controllers": "cpu memory pids\n",
        "cgroup.procs": "11\n12\n",
        "cgroup.subtree_control": "",
        "memory.events": "low 0\noom 0\noom_kill 0\n",
    }.items():
        (own / name).write_text(text)
    (own / LEAF).mkdir()
    (own / LEAF / "cgroup.procs").write_text("")
    (tmp_path / "own").write_text("0::/agent.service\n")
    return tmp_path


def groups_of(recorded: Path) -> Groups:
    return Groups(str(recorded / "cgroup"), str(recorded / "own"))


def test_version_2_moves_us_aside_before_it_divides(
    recorded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = recorded / "cgroup" / "agent.service"
    made = own / "toolbox-job-x"
    make = __import__("os").mkdir

    def with_files(path: str, *more: int) -> None:
        make(path, *more)
        # The kernel fills a new group with its files.
        for name in ("memory.max", "memory.swap.max", "pids.max", "cgroup.procs"):
            (Path(path) / name).write_text("max")

    monkeypatch.setattr("agent.keeper.cgroup.os.mkdir", with_files)
    limits = Limits()
    limits.memory_bytes, limits.processes = 5 * MIB, 9

    group = groups_of(recorded).create("x", limits)

    assert group is not None
    assert (own / LEAF / "cgroup.procs").read_text() in {"12", "11"}
    assert (own / "cgroup.subtree_control").read_text() == "+memory +pids"
    assert (made / "memory.max").read_text() == str(5 * MIB)
    assert (made / "memory.swap.max").read_text().startswith("0")
    assert (made / "pids.max").read_text().startswith("9")
    (made / "memory.peak").write_text("12345\n")
    (made / "memory.events").write_text("oom 1\noom_kill 2\n")
    assert (group.peak_bytes(), group.oom_kills()) == (12345, 2)
    shutil.rmtree(made)
    assert group.remove()


def test_kills_in_our_own_group_are_noticed_once(recorded: Path) -> None:
    groups = groups_of(recorded)
    assert not groups.has_killed()

    events = recorded / "cgroup" / "agent.service" / "memory.events"
    events.write_text("oom 1\noom_kill 1\n")

    assert groups.has_killed()
    assert not groups.has_killed()


def test_a_group_that_is_not_ours_to_divide_is_left(recorded: Path) -> None:
    limits = Limits()
    limits.memory_bytes = MIB
    (recorded / "cgroup" / "agent.service" / "cgroup.subtree_control").unlink()

    assert groups_of(recorded).create("x", limits) is None
