"""`POST /process/execute` on a real agent: contract 30 §5 and §10, row by row."""

import base64
import contextlib
import json
import os
import shlex
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.agent import PROGRAM, Agent, StartAgent
from tests.support.processes import alive, end_all, wait_gone

MIB = 1024 * 1024


def result(agent: Agent, command: str, **fields: object) -> tuple[int, str]:
    """Run a command and return exit code and result."""
    answer = agent.execute(command, **fields)
    assert answer.status == 200, answer.body
    body = answer.json()
    assert set(body) == {"exitCode", "result"}
    return body["exitCode"], body["result"]


@pytest.mark.parametrize(
    ("command", "exit_code", "text"),
    [
        ("printf a; printf b >&2; printf c", 0, "abc"),
        ("exit 42", 42, ""),
        ("echo 'a b'\"c\"", 0, "a bc\n"),
        ("kill -9 $$", 137, ""),
        ("kill -TERM $$", 143, ""),
        ("sh -c 'kill -9 $$'; echo $?", 0, None),
        ("printf '\\377'", 0, "\ufffd"),
        ("printf 'no newline'", 0, "no newline"),
        ("printf 'a\\n\\nb\\r\\nc\\rd\\0e'", 0, "a\n\nb\r\nc\rd\0e"),
        ("cat; echo after", 0, "after\n"),
        ("python3 -c 'input()' 2>/dev/null", 1, ""),
        ("cat <<X\nhere\nX", 0, "here\n"),
        ("echo one # comment", 0, "one\n"),
        ("# only a comment", 0, ""),
        ("echo dtn_artifact_k39fd2:{}", 0, "dtn_artifact_k39fd2:{}\n"),
    ],
)
def test_commands_answer_as_a_shell_does(
    agent: Agent, command: str, exit_code: int, text: str | None
) -> None:
    got = result(agent, command)

    assert got[0] == exit_code
    assert text is None or got[1] == text


def test_an_unknown_program_is_127_and_says_so(agent: Agent) -> None:
    exit_code, text = result(agent, "nosuchcommand")

    assert exit_code == 127
    assert "not found" in text


def test_standard_streams_come_in_the_order_they_were_written(agent: Agent) -> None:
    script = "i=0; while [ $i -lt 500 ]; do echo $i; echo $i >&2; i=$((i+1)); done"

    _, text = result(agent, script)

    assert text == "".join(f"{i}\n{i}\n" for i in range(500))


def test_the_environment_is_the_agents_and_the_requests(
    start_agent: StartAgent,
) -> None:
    agent = start_agent(env={"FROM_AGENT": "1", "BOTH": "agent"})

    _, text = result(
        agent, 'echo "$FROM_AGENT $BOTH $K"', envs={"BOTH": "request", "K": "a b;$X"}
    )

    assert text == "1 request a b;$X\n"


def test_children_see_nothing_of_the_agents_options(start_agent: StartAgent) -> None:
    agent = start_agent(
        token="the-canary-token",
        env={"TOOLBOX_SIGNING_KEY": "the-canary-key", "NOTIFY_SOCKET": "/no/such"},
    )

    _, text = result(agent, "env; ls -l /proc/self/fd | wc -l; cat /proc/self/cmdline")

    assert "canary" not in text
    names = {line.partition("=")[0] for line in text.splitlines()}
    assert not {name for name in names if name.startswith("TOOLBOX_")} - {
        "TOOLBOX_OWNER"
    }
    assert "NOTIFY_SOCKET" not in names


def test_a_child_has_three_descriptors_and_default_signals(agent: Agent) -> None:
    # The shell lists its own; a fourth would be the one that `ls` reads with. A plain
    # one, because zsh opens descriptors for itself. The signals are those of `grep`: a
    # shell blocks its own while it starts one.
    script = "ls /proc/$$/fd; grep -E 'Sig(Ign|Blk)' /proc/self/status; :"
    _, text = result(agent, f"sh -c {shlex.quote(script)}")

    assert text.split()[:3] == ["0", "1", "2"]
    assert text.split()[3].startswith("Sig")
    ignored = [line.split()[1] for line in text.splitlines() if "Sig" in line]
    assert all(int(mask, 16) & (1 << (signal.SIGPIPE - 1)) == 0 for mask in ignored)


def held_by(pid: int) -> Iterator[str]:
    """Yield what a process has open; what it closes meanwhile is left out."""
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            yield str(each.readlink())


def test_what_the_caller_left_open_goes_no_further(start_agent: StartAgent) -> None:
    opening = ("sh", "-c", 'exec "$@" 7</etc/passwd', "sh", PROGRAM)
    agent = start_agent(program=opening)

    _, text = result(agent, "ls -l /proc/$$/fd")

    assert "/etc/passwd" not in text
    for pid in (agent.pid, agent.api_pid()):
        held = list(held_by(pid))
        assert "/etc/passwd" not in held


@pytest.mark.parametrize(
    ("envs", "named"), [({"1A": "x"}, "1A"), ({"A-B": "x"}, "A-B"), ({"": "x"}, "''")]
)
def test_a_bad_variable_name_is_told(
    agent: Agent, envs: dict[str, str], named: str
) -> None:
    answer = agent.execute("true", envs=envs)

    assert (answer.status, answer.json()["code"]) == (400, "BAD_REQUEST")
    assert "invalid environment variable name" in answer.json()["message"]
    assert named in answer.json()["message"]


def test_a_relative_cwd_is_below_the_work_dir(agent: Agent) -> None:
    (agent.work_dir / "sub").mkdir()

    assert result(agent, "pwd")[1] == f"{agent.work_dir}\n"
    assert result(agent, "pwd", cwd="")[1] == f"{agent.work_dir}\n"
    assert result(agent, "pwd", cwd="sub")[1] == f"{agent.work_dir}/sub\n"
    assert result(agent, "pwd", cwd="/usr")[1] == "/usr\n"


@pytest.mark.parametrize("cwd", ["/nope", "file", "~"])
def test_a_cwd_that_cannot_be_used_is_a_result(agent: Agent, cwd: str) -> None:
    (agent.work_dir / "file").touch()

    exit_code, text = result(agent, "pwd", cwd=cwd)

    assert exit_code == -1
    assert "chdir" in text
    assert cwd in text


@pytest.mark.parametrize("command", ["", "   ", "\n\t"])
def test_a_blank_command_is_refused(agent: Agent, command: str) -> None:
    answer = agent.execute(command)

    assert (answer.status, answer.json()["code"]) == (400, "BAD_REQUEST")


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"{}",
        b'{"command":1}',
        b'{"command":"x","timeout":-1}',
        b'{"command":"x","timeout":"1"}',
        b'{"command":"x","envs":{"A":1}}',
        b'{"command":"x","envs":[]}',
        b"",
    ],
)
def test_a_bad_body_is_refused(agent: Agent, body: bytes) -> None:
    answer = agent.request("POST", "/process/execute", body)

    assert (answer.status, answer.json()["code"]) == (400, "INVALID_REQUEST_BODY")


def test_a_nul_character_is_refused(agent: Agent) -> None:
    assert agent.execute("echo a\0b").status == 400
    assert agent.execute("true", cwd="a\0b").status == 400
    assert agent.execute("true", envs={"A": "\0"}).status == 400


@pytest.mark.timeout(60)
@pytest.mark.parametrize("size", [130_000, 131_071, 131_072, 200_000, 5 * MIB])
def test_commands_of_any_size_run_whole(agent: Agent, size: int) -> None:
    end = "\necho done; echo $#"
    command = "#" + "x" * (size - len(end) - 1) + end

    assert result(agent, command) == (0, "done\n0\n")


def test_a_long_script_is_not_eaten_by_what_reads_stdin(agent: Agent) -> None:
    padding = "#" + "x" * 200_000

    assert result(agent, f"{padding}\ncat\necho after") == (0, "after\n")


@pytest.mark.timeout(60)
def test_output_of_many_megabytes_is_complete(agent: Agent) -> None:
    # Three-byte characters at every offset of every internal piece.
    script = "yes '漢字' | head -c 20000001"

    exit_code, text = result(agent, script)

    expected = ("漢字\n".encode() * 3_000_000)[:20_000_001].decode("utf-8", "replace")
    assert exit_code == 0
    assert text == expected


@pytest.mark.timeout(60)
def test_output_past_the_bound_keeps_head_and_tail_and_says_so(
    start_agent: StartAgent,
) -> None:
    agent = start_agent("--result-max-bytes", str(MIB))

    answer = agent.execute("seq 1 1000000")

    whole = "".join(f"{i}\n" for i in range(1, 1_000_001))
    text = answer.json()["result"]
    dropped = int(answer.headers["X-Toolbox-Dropped-Bytes"])
    assert len(text) == MIB
    assert dropped == len(whole) - MIB
    assert whole.startswith(text[: MIB // 2])
    assert whole.endswith(text[MIB // 2 :])
    assert list((agent.state_dir / "spool").iterdir()) == []


def test_a_complete_output_has_no_header_of_loss(agent: Agent) -> None:
    assert "X-Toolbox-Dropped-Bytes" not in agent.execute("seq 1 100000").headers


def test_a_background_child_neither_delays_the_answer_nor_dies(agent: Agent) -> None:
    started = time.monotonic()

    exit_code, text = result(agent, "sleep 60 & echo $!; echo hi")

    took = time.monotonic() - started
    pid = int(text.split()[0])
    try:
        assert exit_code == 0
        assert text.endswith("hi\n")
        assert took < 1
        assert alive(pid)
    finally:
        end_all([pid])


def test_a_background_child_keeps_a_working_output(agent: Agent) -> None:
    done = agent.work_dir / "done"
    os.mkfifo(done)

    _, text = result(
        agent,
        "(trap 'echo PIPE > done' PIPE; i=0; while [ $i -lt 2000 ]; do"
        " echo some output that must go somewhere; i=$((i+1)); done; echo fine > done) &"
        " echo $!",
    )

    assert done.read_text() == "fine\n"
    # The child may have written before its number is told.
    assert [line for line in text.splitlines() if line.isdecimal()]


def test_a_timeout_kills_the_whole_tree_and_answers_in_time(agent: Agent) -> None:
    command = (
        "trap '' TERM; sleep 99 & setsid sleep 98 & (setsid sh -c"
        " 'trap \"\" TERM HUP INT; sleep 97 & wait' &) ; echo $$ > pid; sleep 96"
    )
    started = time.monotonic()

    answer = agent.execute(command, timeout=1)

    took = time.monotonic() - started
    body = answer.json()
    assert answer.status == 408
    assert body["code"] == "PROCESS_EXECUTION_TIMEOUT"
    assert body["message"] == "command execution timeout"
    assert 1.0 <= took < 2.0
    sleeping = agent.execute("ps -eo args").json()["result"]
    mine = int((agent.work_dir / "pid").read_text())
    assert wait_gone(mine)
    for seconds in (96, 97, 98, 99):
        tagged = [line for line in sleeping.splitlines() if line == f"sleep {seconds}"]
        assert not tagged


def test_a_command_that_ends_in_time_is_not_touched(agent: Agent) -> None:
    assert result(agent, "echo in time", timeout=60) == (0, "in time\n")
    assert result(agent, "echo no limit", timeout=0) == (0, "no limit\n")
    assert result(agent, "echo float", timeout=5.0) == (0, "float\n")


def test_a_client_that_leaves_does_not_end_the_command(agent: Agent) -> None:
    going = agent.work_dir / "going"
    done = agent.work_dir / "done"
    os.mkfifo(going)
    os.mkfifo(done)
    body = json.dumps({"command": "echo > going; cat done > got"}).encode()
    with agent.connection() as connection:
        connection.sendall(
            b"POST /process/execute HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n"
            b"Authorization: Bearer %s\r\n\r\n%s"
            % (len(body), agent.token.encode(), body)
        )
        going.read_text()
        connection.shutdown(socket.SHUT_RDWR)

    done.write_text("it went on\n")

    answer = agent.execute("while [ ! -s got ]; do :; done; cat got", timeout=5)
    assert answer.json()["result"] == "it went on\n"


@pytest.mark.timeout(60)
def test_no_exit_code_is_ever_lost(agent: Agent) -> None:
    def run(_: int) -> int:
        return result(agent, "exit 7")[0]

    with ThreadPoolExecutor(64) as pool:
        codes = list(pool.map(run, range(500)))

    assert codes == [7] * 500


def test_orphans_are_reaped(agent: Agent) -> None:
    result(agent, "i=0; while [ $i -lt 50 ]; do (true &) ; i=$((i+1)); done")

    _, text = result(agent, f"ps -o stat= --ppid {agent.pid}")

    assert not [line for line in text.split() if line.startswith("Z")]


def legacy(command: str, value: str) -> str:
    """Return what SDK 0.25.6 sends for a command with K=value."""

    def b64(text: str) -> str:
        return base64.b64encode(text.encode()).decode()

    return (
        f"sh -c \"export K=$(echo '{b64(value)}' | base64 -d);"
        f" echo '{b64(command)}' | base64 -d | sh\""
    )


@pytest.mark.parametrize(
    "value", ["x;echo INJECTED", "a b", "it's", 'quo"te', "$HOME", "`id`"]
)
def test_the_first_sdks_environment_is_taken_literally(
    agent: Agent, value: str
) -> None:
    assert result(agent, legacy('printf "[%s]" "$K"', value)) == (0, f"[{value}]")


def test_more_commands_than_allowed_get_429(start_agent: StartAgent) -> None:
    agent = start_agent("--max-commands", "1")
    gate = agent.work_dir / "gate"
    os.mkfifo(gate)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(agent.execute, "echo > gate; cat gate")
        gate.read_text()
        second = agent.execute("true")
        gate.write_text("go\n")
        assert first.result().json()["result"] == "go\n"

    assert (second.status, second.json()["code"]) == (429, "TOO_MANY_REQUESTS")
    assert agent.execute("true").status == 200


def test_a_work_dir_that_is_gone_is_a_result_not_a_failure(agent: Agent) -> None:
    Path(agent.work_dir).rmdir()

    exit_code, text = result(agent, "true")

    assert exit_code == -1
    assert "chdir" in text
    agent.work_dir.mkdir()
    assert result(agent, "true") == (0, "")
