"""`toolbox-agent entrypoint logs`: the log that a real keeper wrote, or is writing."""

import subprocess
from pathlib import Path

import pytest

from agent.entrypoint_logs import LogReader, show
from agent.settings import Settings
from tests.support.agent import PROGRAM, Agent, StartAgent, environment

MIXED = "for i in 1 2 3; do echo out $i; sleep 0.02; echo err $i >&2; sleep 0.02; done"
OUT = "out 1\nout 2\nout 3\n"
ERR = "err 1\nerr 2\nerr 3\n"


def settings(agent: Agent) -> Settings:
    return Settings(state_dir=str(agent.state_dir))


def ended(agent: Agent) -> Path:
    """Wait until the entrypoint has ended, and return its directory."""
    directory = agent.state_dir / "jobs/entrypoint"
    while not (directory / "exit.json").exists():
        agent.request("GET", "/version")
    return directory


def test_each_stream_goes_where_it_came_from(
    start_agent: StartAgent, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    agent = start_agent(entrypoint=("sh", "-c", MIXED))
    ended(agent)
    capfdbinary.readouterr()

    assert show(settings(agent), follow=False) == 0

    shown = capfdbinary.readouterr()
    assert (shown.out.decode(), shown.err.decode()) == (OUT, ERR)


def test_following_ends_with_the_entrypoint(
    start_agent: StartAgent, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    agent = start_agent(
        entrypoint=("sh", "-c", f"while [ ! -e gate ]; do sleep 0.05; done; {MIXED}")
    )
    log = agent.state_dir / "jobs/entrypoint/output.log"
    while not log.exists():
        agent.request("GET", "/version")
    capfdbinary.readouterr()
    (agent.work_dir / "gate").touch()

    assert show(settings(agent), follow=True) == 0

    shown = capfdbinary.readouterr()
    assert (shown.out.decode(), shown.err.decode()) == (OUT, ERR)


def test_without_following_a_running_entrypoint_is_shown_so_far(
    start_agent: StartAgent, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    agent = start_agent(entrypoint=("sh", "-c", "echo so far; exec sleep 60"))
    log = agent.state_dir / "jobs/entrypoint/output.log"
    while not log.exists() or not log.read_bytes():
        agent.request("GET", "/version")
    capfdbinary.readouterr()

    assert show(settings(agent), follow=False) == 0

    assert capfdbinary.readouterr().out == b"so far\n"


def test_a_large_log_is_shown_whole(start_agent: StartAgent) -> None:
    agent = start_agent(entrypoint=("sh", "-c", "seq 200000; seq 200000 >&2"))
    reader = LogReader(str(ended(agent)))

    shown = {1: b"", 2: b""}
    for piece in reader.new():
        shown[piece.stream] += piece.content
    reader.close()

    whole = "".join(f"{i}\n" for i in range(1, 200_001)).encode()
    assert shown == {1: whole, 2: whole}


def test_no_log_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert show(Settings(state_dir=str(tmp_path)), follow=True) == 1

    told = capsys.readouterr().err
    assert told.startswith("toolbox-agent: no entrypoint log")
    assert told.count("\n") == 1


def test_a_reader_that_has_seen_enough_is_no_error(start_agent: StartAgent) -> None:
    agent = start_agent(entrypoint=("sh", "-c", "seq 100000"))
    ended(agent)
    pipe = f"{PROGRAM} entrypoint logs | head -1"

    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {pipe}"],
        env=environment(TOOLBOX_STATE_DIR=str(agent.state_dir), HOME=str(agent.home)),
        capture_output=True,
        text=True,
        timeout=9,
        check=False,
    )

    assert (done.stdout, done.stderr, done.returncode) == ("1\n", "", 0)
