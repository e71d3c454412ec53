"""Sessions: shells that keep their state, and run one command after the other."""

import asyncio
import shutil
import signal
import uuid
from collections.abc import AsyncIterator

import pytest

from agent.errors import ConflictError, GoneError, NotFoundError, TooLargeError
from agent.keeper.client import Exit, Keeper, Piece
from agent.keeper.session_client import CommandSpec, KeptSessions, ShellSpec
from tests.keeper.harness import TAG, House
from tests.support.processes import alive, tagged

SHELLS = {
    "bash": (["/bin/bash"], ["/bin/bash"], "command"),
    "dash": (["/bin/dash"], ["/bin/dash"], "command"),
    "ash": (["/bin/busybox", "ash"], ["/bin/busybox", "ash"], "command"),
    "zsh": (["/usr/bin/zsh"], ["/usr/bin/zsh", "-f"], "builtin"),
}


def shell_spec(name: str, cwd: str, **env: str) -> ShellSpec:
    argv, plain, prefix = SHELLS[name]
    return ShellSpec(argv=argv, plain_argv=plain, prefix=prefix, cwd=cwd, env=env)


class Shell:
    """One session, as the tests use it."""

    def __init__(self, keeper: Keeper, name: str) -> None:
        self.keeper = keeper
        self.sessions = KeptSessions(keeper)
        self.name = name

    def spec(self, text: str, **more: object) -> CommandSpec:
        """Return a new command."""
        values = {"takes_input": False, "echoes": False, **more}
        return CommandSpec(
            id=str(uuid.uuid4()),
            text=text.encode("utf-8", "surrogateescape"),
            **values,  # type: ignore[arg-type] # each test's own
        )

    async def run(self, text: str, **more: object) -> "Outcome":
        """Run a command to its end."""
        how, piece = await self.sessions.run(self.name, self.spec(text, **more))
        return Outcome(how, piece)

    async def start(self, text: str, **more: object) -> str:
        """Queue a command that takes input, and return its name."""
        spec = self.spec(text, **{"takes_input": True, **more})
        await self.sessions.start(self.name, spec)
        return spec.id

    async def output(self, command: str) -> bytes:
        """Follow a command to its end."""
        async with self.keeper.subscribe(command) as output:
            return b"".join([chunk.data async for chunk in output])


class Outcome:
    """How a command ended, and what it wrote."""

    def __init__(self, how: Exit, piece: Piece) -> None:
        self.how = how
        self.code = how.exit_code
        self.out = b"".join(each.data for each in piece.chunks if each.stream == 1)
        self.err = b"".join(each.data for each in piece.chunks if each.stream == 2)


@pytest.fixture(params=list(SHELLS))
async def shell(keeper: Keeper, request: pytest.FixtureRequest) -> AsyncIterator[Shell]:
    """Return a session of each shell."""
    shell = Shell(keeper, "s1")
    await shell.sessions.create("s1", shell_spec(request.param, "/tmp"))
    yield shell
    if any(each.name == "s1" for each in await shell.sessions.all()):
        await shell.sessions.end("s1", 0)


async def bash(keeper: Keeper, name: str = "s1", **env: str) -> Shell:
    shell = Shell(keeper, name)
    await shell.sessions.create(name, shell_spec("bash", "/tmp", **env))
    return shell


async def test_what_a_command_sets_the_next_one_has(shell: Shell) -> None:
    first = await shell.run("cd /usr; export A=1; B=2; f() { echo F$A$B; }; umask 027")
    second = await shell.run("pwd; f; umask")

    assert (first.code, first.out, first.err) == (0, b"", b"")
    assert second.out.split()[:2] == [b"/usr", b"F12"]
    assert int(second.out.split()[2], 8) == 0o027


async def test_both_outputs_are_told_apart(shell: Shell) -> None:
    result = await shell.run(
        "printf out; printf err >&2; exit_code() { return 7; }; exit_code"
    )

    assert (result.code, result.out, result.err) == (7, b"out", b"err")


@pytest.mark.parametrize(
    ("text", "out"),
    [
        ("cat <<X\nhi", b"hi"),
        ("cat <<'X'\n$A `\nX\necho after", b"$A `\nafter\n"),
        ("echo a # comment", b"a\n"),
        ("echo a; : \\", b"a"),
        ("echo bg &", b"bg\n"),
        ("printf '%s' 'a\nb'", b"a\nb"),
        ("echo ${#A}; echo '}'", b"0\n}\n"),
        ("printf '\\001\\001\\001\\000\\377x'", b"\x01\x01\x01\x00\xffx"),
        ("return 0; echo never", b""),
        ("\n\n  echo x\n\n", b"x\n"),
    ],
)
async def test_no_text_reaches_what_stands_around_it(
    shell: Shell, text: str, out: bytes
) -> None:
    result = await shell.run(text)
    after = await shell.run("echo ok")

    assert result.code == 0
    assert result.out.rstrip() == out.rstrip()
    assert (after.code, after.out) == (0, b"ok\n")


@pytest.mark.parametrize(
    "text", ["echo 'unterminated", "if true; then", ")", "echo $(", "{", "case x in"]
)
async def test_a_syntax_error_costs_that_command_only(shell: Shell, text: str) -> None:
    result = await shell.run(text)
    after = await shell.run("echo ok")

    assert result.code != 0
    assert result.err
    assert (after.code, after.out) == (0, b"ok\n")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("return 5", 5),
        ("(exit 9)", 9),
        ("nosuchcommand_", 127),
        ("/etc/passwd", 126),
        ("sh -c 'kill -9 $$'", 137),
        ("false", 1),
        ("true", 0),
    ],
)
async def test_the_exit_code_is_the_commands(
    shell: Shell, text: str, code: int
) -> None:
    assert (await shell.run(text)).code == code


@pytest.mark.parametrize(
    ("text", "code", "out"),
    [
        ("exit 3", 3, b""),
        ("echo last; exit 0", 0, b"last\n"),
        ("set -e; echo a; false; echo b", 1, b"a\n"),
        ("exec sh -c 'echo other; exit 6'", 6, b"other\n"),
        ("kill -9 $$", 137, b""),
        ("trap 'echo bye' EXIT; exit 4", 4, b"bye\n"),
    ],
)
async def test_a_shell_that_ends_gives_its_status_to_its_command(
    shell: Shell, text: str, code: int, out: bytes
) -> None:
    result = await shell.run(text)

    assert (result.code, result.out) == (code, out)
    with pytest.raises(GoneError):
        await shell.run("echo never")
    assert (await shell.sessions.info("s1"))[0].ended


async def test_a_function_named_as_a_builtin_does_no_harm(shell: Shell) -> None:
    await shell.run("printf() { echo fake; }; echo() { :; }")

    assert (await shell.run("return 3")).code == 3


async def test_commands_wait_for_their_turn(shell: Shell) -> None:
    first = await shell.start("sleep 0.3; echo one")
    queued = await shell.start("echo two")
    last = await shell.run("echo three")

    assert last.out == b"three\n"
    _, commands = await shell.sessions.info("s1")
    assert [each.exit_code for each in commands] == [0, 0, 0]
    assert [each.text for each in commands][2] == "echo three"
    assert await shell.output(first) == b"one\n"
    assert await shell.output(queued) == b"two\n"


async def test_a_queued_command_has_an_empty_log_and_no_code(shell: Shell) -> None:
    await shell.start("read x")
    queued = await shell.start("echo two")

    assert (await shell.keeper.read(queued)).chunks == ()
    assert (await shell.keeper.info(queued)).state == "queued"
    _, commands = await shell.sessions.info("s1")
    assert [each.exit_code for each in commands] == [None, None]


async def test_queued_commands_of_a_dead_shell_end_too(shell: Shell) -> None:
    await shell.start("read x; exit 3")
    queued = await shell.start("echo never")
    running = (await shell.sessions.info("s1"))[1][0].id

    await shell.keeper.write(running, b"go\n")

    assert (await shell.keeper.wait(running)).exit_code == 3
    told = await shell.keeper.wait(queued)
    assert (told.exit_code, told.reason) == (-1, "not-started")
    assert await shell.output(queued) == b""


async def test_input_that_comes_before_the_command_runs_is_not_lost(
    shell: Shell,
) -> None:
    await shell.start("sleep 0.2")
    command = await shell.start("read a; read b; echo $a-$b; cat", echoes=True)
    await shell.keeper.write(command, b"one\n")
    await shell.keeper.write(command, b"two\n")
    await shell.keeper.write(command, b"rest")
    await shell.keeper.close_stdin(command)

    assert (await shell.keeper.wait(command)).exit_code == 0
    assert await shell.output(command) == b"one\ntwo\nrestone-two\nrest"


async def test_a_command_that_is_waited_for_reads_nothing(shell: Shell) -> None:
    assert (await shell.run("cat; echo done")).out == b"done\n"
    command = (await shell.sessions.info("s1"))[1][0].id
    with pytest.raises(ConflictError):
        await shell.keeper.write(command, b"x")


async def test_input_that_nobody_reads_is_refused_in_the_end(shell: Shell) -> None:
    command = await shell.start("sleep 30")

    for _ in range(10):
        await shell.keeper.write(command, bytes(100_000))
    with pytest.raises(TooLargeError):
        await shell.keeper.write(command, bytes(200_000))


async def test_a_background_child_keeps_neither_command_nor_session(
    shell: Shell,
) -> None:
    command = await shell.start("(sleep 0.5; echo late) & echo now")

    assert (await shell.keeper.wait(command)).exit_code == 0
    after = await shell.run("echo next")
    assert after.out == b"next\n"
    assert await shell.output(command) == b"now\nlate\n"


async def test_a_session_that_is_ended_leaves_nothing(
    shell: Shell, house: House
) -> None:
    everybody = tagged(TAG, house.tag)
    await shell.run(
        "sh -c 'trap \"\" TERM; sleep 99 & wait; sleep 99' &"
        " nohup sleep 99 >/dev/null 2>&1 & setsid sleep 99 & echo ok"
    )
    running = await shell.start("sleep 99")
    shell_pid = (await shell.sessions.info("s1"))[0].pid
    waiting = asyncio.create_task(shell.run("echo queued"))
    while len((await shell.sessions.info("s1"))[1]) < 3:  # noqa: ASYNC110 - asks the keeper
        await asyncio.sleep(0.01)

    assert await shell.sessions.end("s1", 0.3) == 0

    assert not alive(shell_pid)
    assert (await waiting).how.reason == "deleted"
    with pytest.raises(NotFoundError):
        await shell.sessions.info("s1")
    with pytest.raises(NotFoundError):
        await shell.keeper.info(running)
    assert tagged(TAG, house.tag) <= everybody


async def test_followers_of_an_ended_session_get_the_rest(shell: Shell) -> None:
    command = await shell.start("head -c 3000000 /dev/zero; sleep 99")
    received = 0
    async with shell.keeper.subscribe(command, window_bytes=100_000) as output:
        async for chunk in output:
            if not received:
                while (await shell.keeper.info(command)).stored_bytes < 3_000_000:  # noqa: ASYNC110 - asks the keeper
                    await asyncio.sleep(0.01)
                await shell.sessions.end("s1", 0)
            received += len(chunk.data)

    assert received == 3_000_000
    with pytest.raises(NotFoundError):
        await shell.keeper.info(command)


async def test_one_of_many_that_create_the_same_wins(keeper: Keeper) -> None:
    sessions = KeptSessions(keeper)
    results = await asyncio.gather(
        *(sessions.create("same", shell_spec("dash", "/tmp")) for _ in range(20)),
        return_exceptions=True,
    )

    refused = [each for each in results if isinstance(each, ConflictError)]
    assert len(refused) == 19
    assert len(await sessions.all()) == 1
    await sessions.end("same", 0)


async def test_a_thousand_commands_leave_nothing_behind(
    keeper: Keeper, house: House
) -> None:
    shell = await bash(keeper)
    await shell.run("true")
    before = await keeper.stats()
    files = len(list((house.state / "spool").iterdir()))
    inside = next(house.state.glob("spool/*-s1"))

    for number in range(300):
        assert (await shell.run(f"echo {number}")).out == b"%d\n" % number
    command = [await shell.start("read x") for _ in range(20)]
    for each in command:
        await keeper.write(each, b"\n")
        assert (await keeper.wait(each)).exit_code == 0

    after = await keeper.stats()
    assert after["fds"] == before["fds"]
    assert len(list((house.state / "spool").iterdir())) == files
    assert len(list(inside.iterdir())) <= 5
    await shell.sessions.end("s1", 0)
    assert not inside.exists()


async def test_a_long_log_is_all_there(keeper: Keeper) -> None:
    shell = await bash(keeper)
    command = await shell.start(
        "i=0; while [ $i -lt 5000 ]; do echo o$i; echo e$i >&2; i=$((i+1)); done"
    )

    parts: dict[int, bytes] = {1: b"", 2: b""}
    async with keeper.subscribe(command) as output:
        async for chunk in output:
            parts[chunk.stream] += chunk.data

    assert parts[1].split() == [b"o%d" % i for i in range(5000)]
    assert parts[2].split() == [b"e%d" % i for i in range(5000)]
    again = b""
    while (piece := await keeper.read(command, len(again))).chunks:
        again += b"".join(each.data for each in piece.chunks)
    assert len(again) == len(parts[1]) + len(parts[2])
    await shell.sessions.end("s1", 0)


async def test_what_is_past_the_bound_is_counted(keeper: Keeper) -> None:
    shell = await bash(keeper)

    result = await shell.run("head -c 100000 /dev/zero", max_bytes=60_000)
    small = await shell.run("printf 0123456789", max_bytes=4)

    assert (len(result.out), result.how.dropped_bytes) == (60_000, 40_000)
    assert (small.out, small.how.dropped_bytes) == (b"0123", 6)
    await shell.sessions.end("s1", 0)


async def test_a_time_limit_ends_what_runs_and_spares_the_shell(shell: Shell) -> None:
    result = await shell.run("export A=kept; sh -c 'sleep 99'; :", timeout_s=0.2)

    assert result.how.reason == "timeout"
    assert (await shell.run("echo $A")).out == b"kept\n"


async def test_a_shell_that_itself_runs_too_long_is_ended(shell: Shell) -> None:
    result = await shell.run("while :; do :; done", timeout_s=0.2)

    assert (result.how.reason, result.code) == ("timeout", 137)
    with pytest.raises(GoneError):
        await shell.run("echo never")


async def test_a_signal_reaches_the_command_and_not_its_shell(shell: Shell) -> None:
    survivor = await shell.run("sleep 99 & echo $!")
    command = await shell.start("sh -c 'sleep 99; echo never'; echo $?")
    while (await shell.keeper.info(command)).state != "running":  # noqa: ASYNC110 - asks the keeper
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)

    await shell.keeper.signal(command, signal.SIGTERM)

    assert (await shell.output(command)).endswith(b"143\n")
    assert alive(int(survivor.out))
    assert (await shell.run("echo ok")).out == b"ok\n"


async def test_a_signal_ends_a_shell_that_runs_nothing_else(shell: Shell) -> None:
    command = await shell.start("while :; do :; done")
    while (await shell.keeper.info(command)).state != "running":  # noqa: ASYNC110 - asks the keeper
        await asyncio.sleep(0.01)

    await shell.keeper.signal(command, signal.SIGKILL)

    assert (await shell.keeper.wait(command)).exit_code == 137


async def test_start_up_files_cannot_swallow_the_first_command(
    keeper: Keeper, tmp_path: object
) -> None:
    profile = f"{tmp_path}/profile"
    with open(profile, "w", encoding="utf-8") as file:  # noqa: ASYNC230, PTH123
        file.write("exit 5\n")
    shell = await bash(keeper, BASH_ENV=profile)

    assert (await shell.run("echo ok")).out == b"ok\n"
    await shell.sessions.end("s1", 0)


async def test_sessions_outlive_the_api(house: House) -> None:
    keeper = await house.open()
    shell = await bash(keeper)
    await shell.run("cd /usr; A=1")
    running = await shell.start("read x; echo got $x")
    queued = await shell.start("echo queued $A; pwd")

    house.apis[-1].kill()
    keeper = await house.open()
    shell = Shell(keeper, "s1")
    await keeper.write(running, b"it\n")

    assert await shell.output(running) == b"got it\n"
    assert await shell.output(queued) == b"queued 1\n/usr\n"
    await shell.sessions.end("s1", 0)


async def test_a_directory_that_was_removed_is_made_again(
    keeper: Keeper, house: House
) -> None:
    shell = await bash(keeper)
    first = await shell.run(f"rm -rf {house.state}; echo gone")

    assert (first.code, first.out) == (0, b"gone\n")
    assert (await shell.run("echo still here")).out == b"still here\n"
    assert (await shell.run("head -c 50000 /dev/zero")).out == bytes(50_000)
    await shell.sessions.end("s1", 0)


async def test_a_text_of_megabytes_runs(keeper: Keeper) -> None:
    shell = await bash(keeper)
    text = "A='" + "x" * 3_000_000 + "'; echo ${#A}"

    assert (await shell.run(text)).out == b"3000000\n"
    assert (await shell.run("echo small")).out == b"small\n"
    _, commands = await shell.sessions.info("s1")
    assert [len(each.text) for each in commands] == [len(text), 10]
    await shell.sessions.end("s1", 0)


async def test_a_list_of_jobs_leaves_out_what_sessions_are_done_with(
    keeper: Keeper,
) -> None:
    shell = await bash(keeper)
    for _ in range(5):
        await shell.run("true")
    running = await shell.start("sleep 30")

    everything = {job.kind: job.id for job in await keeper.list()}
    commands = await keeper.list("session-command")

    assert set(everything) == {"session", "session-command"}
    assert everything["session-command"] == running
    assert len(commands) == 6
    await shell.sessions.end("s1", 0)


async def test_start_up_files_that_never_end_are_given_up(
    keeper: Keeper, house: House, tmp_path: object
) -> None:
    profile = f"{tmp_path}/profile"
    with open(profile, "w", encoding="utf-8") as file:  # noqa: ASYNC230, PTH123
        file.write("read swallowed; sleep 60\n")
    everybody = tagged(TAG, house.tag)
    shell = await bash(keeper, BASH_ENV=profile)

    assert (await shell.run("echo ok; sleep 50 &")).out == b"ok\n"

    assert await shell.sessions.end("s1", 0.1) == 0
    assert tagged(TAG, house.tag) <= everybody
    assert {job.kind for job in await keeper.list()} == set()


async def test_a_follower_whose_log_was_removed_gets_the_rest(
    keeper: Keeper, house: House
) -> None:
    shell = await bash(keeper)
    command = await shell.start(
        "head -c 4000000 /dev/zero; read x; head -c 4000000 /dev/zero"
    )
    received = 0
    async with keeper.subscribe(command, window_bytes=200_000) as output:
        async for chunk in output:
            assert chunk.offset == received
            received += len(chunk.data)
            if received >= 1_000_000 and house.state.exists():
                shutil.rmtree(house.state)
                await keeper.write(command, b"\n")

    assert received == 8_000_000
    await shell.sessions.end("s1", 0)
