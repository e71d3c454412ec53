"""A request that is sent again with its key gets the outcome of the first one."""

import json
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.agent import Agent, Answer, StartAgent

V = {"X-Daytona-SDK-Version": "0.226.1"}
COUNT = "echo x >> count; wc -l < count"


def keyed(agent: Agent, key: str, path: str, body: dict[str, Any]) -> Answer:
    return agent.request("POST", path, body, {**V, "Idempotency-Key": key})


def execute(agent: Agent, key: str, command: str, **fields: object) -> Answer:
    return keyed(agent, key, "/process/execute", {"command": command, **fields})


def count(agent: Agent) -> int:
    """Return how often the command has run."""
    return len((agent.work_dir / "count").read_text().splitlines())


def restarted(agent: Agent, start_agent: StartAgent) -> Agent:
    """Stop an agent and start another one with its state and work dir."""
    agent.stop()
    return successor(agent, start_agent)


def successor(agent: Agent, start_agent: StartAgent) -> Agent:
    """Start an agent that finds what another one has left."""
    found = ["--state-dir", str(agent.state_dir), "--work-dir", str(agent.work_dir)]
    return start_agent(*found, token="next")


def test_the_same_key_gives_the_first_outcome(agent: Agent) -> None:
    first = execute(agent, "k1", COUNT)
    again = execute(agent, "k1", COUNT)
    other = execute(agent, "k2", COUNT)

    assert first.json() == again.json() == {"exitCode": 0, "result": "1\n"}
    assert first.headers["Idempotency-Replayed"] is None
    assert again.headers["Idempotency-Replayed"] == "true"
    assert other.json()["result"] == "2\n"
    assert count(agent) == 2


def test_those_who_ask_meanwhile_wait_for_the_same_outcome(agent: Agent) -> None:
    with ThreadPoolExecutor(20) as pool:
        answers = list(
            pool.map(lambda _: execute(agent, "k", f"sleep 0.3; {COUNT}"), range(20))
        )

    assert {answer.body for answer in answers} == {answers[0].body}
    assert count(agent) == 1


def test_a_key_with_another_body_is_refused(agent: Agent) -> None:
    execute(agent, "k", COUNT)

    answer = execute(agent, "k", "echo other")

    assert (answer.status, answer.json()["code"]) == (422, "UNPROCESSABLE_ENTITY")
    assert count(agent) == 1


@pytest.mark.parametrize("key", ["x" * 256, "a\tb"])
def test_what_is_no_key_is_refused(agent: Agent, key: str) -> None:
    answer = execute(agent, key, COUNT)

    assert (answer.status, answer.json()["code"]) == (400, "BAD_REQUEST")
    assert not (agent.work_dir / "count").exists()


def test_a_timeout_is_an_outcome(agent: Agent) -> None:
    answers = [
        execute(agent, "k", "echo x >> count; sleep 60", timeout=1) for _ in range(2)
    ]

    assert [each.status for each in answers] == [408, 408]
    codes = {each.json()["code"] for each in answers}
    assert codes == {"PROCESS_EXECUTION_TIMEOUT"}
    assert count(agent) == 1


def test_a_refusal_is_none(agent: Agent) -> None:
    refused = execute(agent, "k", "  ")
    bad = execute(agent, "k2", COUNT, envs={"1": "x"})

    assert (refused.status, bad.status) == (400, 400)
    assert execute(agent, "k2", COUNT).json()["result"] == "1\n"


def test_a_long_outcome_is_whole_each_time(agent: Agent) -> None:
    answers = [execute(agent, "k", "seq 1 300000") for _ in range(2)]

    wanted = "".join(f"{i}\n" for i in range(1, 300001))
    assert [each.json()["result"] for each in answers] == [wanted, wanted]


def test_an_odd_end_is_told_each_time(agent: Agent) -> None:
    answers = [execute(agent, "k", "kill -9 $$") for _ in range(2)]

    reasons = [each.headers["X-Toolbox-Exit-Reason"] for each in answers]
    assert reasons == ["signalled", "signalled"]
    assert [each.json()["exitCode"] for each in answers] == [137, 137]


def test_outcomes_outlive_the_agent(agent: Agent, start_agent: StartAgent) -> None:
    first = execute(agent, "k", COUNT)

    next_agent = restarted(agent, start_agent)

    assert execute(next_agent, "k", COUNT).json() == first.json()
    assert count(agent) == 1


@pytest.fixture
def released(agent: Agent) -> Path:
    """Return a pipe that commands of the test wait for."""
    path = agent.work_dir / "go"
    os.mkfifo(path)
    return path


def wait_for_count(agent: Agent) -> None:
    agent.execute("while [ ! -s count ]; do sleep 0.01; done")


@pytest.mark.parametrize("where", ["execute", "code-run", "session"])
def test_what_runs_while_the_api_is_killed_is_not_run_again(
    agent: Agent, released: Path, where: str
) -> None:
    command = "echo x >> count; read line < go; echo $line"
    code = "import os; os.system('echo x >> count'); print(open('go').read().strip())"
    path, body = {
        "execute": ("/process/execute", {"command": command}),
        "code-run": ("/process/code-run", {"language": "python", "code": code}),
        "session": ("/process/session/s/exec", {"command": command}),
    }[where]
    agent.request("POST", "/process/session", {"sessionId": "s"})

    def ask() -> Answer | None:
        try:
            return keyed(agent, "k", path, body)
        except (OSError, ConnectionError):
            return None

    with ThreadPoolExecutor(1) as pool:
        cut = pool.submit(ask)
        wait_for_count(agent)
        os.kill(agent.api_pid(), signal.SIGKILL)
        assert cut.result() is None
    with ThreadPoolExecutor(1) as pool:
        again = pool.submit(ask)
        with released.open("w") as pipe:
            pipe.write("went on\n")
        answer = again.result()

    assert answer is not None
    assert answer.status == 200, answer.body
    told = answer.json()
    assert told.get("stdout", told.get("result")) == "went on\n"
    assert count(agent) == 1


def test_what_came_of_it_may_be_unknown(
    agent: Agent, start_agent: StartAgent, released: Path
) -> None:
    command = "echo x >> count; read line < go"
    asking = threading.Thread(target=_ask_and_be_cut, args=(agent, command))
    asking.start()
    wait_for_count(agent)
    # All of it at once, so that nobody can write down what comes of the command.
    agent.destroy()
    asking.join()

    answer = execute(successor(agent, start_agent), "k", command)

    assert (answer.status, answer.json()["code"]) == (409, "CONFLICT")
    assert "not known" in answer.json()["message"]
    assert count(agent) == 1
    assert released.exists()


def _ask_and_be_cut(agent: Agent, command: str) -> None:
    with pytest.raises(OSError, match=r".*"):
        execute(agent, "k", command)


def test_a_sessions_commands_have_keys_too(agent: Agent) -> None:
    agent.request("POST", "/process/session", {"sessionId": "s"})
    path = "/process/session/s/exec"

    first = keyed(agent, "k", path, {"command": COUNT})
    again = keyed(agent, "k", path, {"command": COUNT})
    begun = keyed(agent, "k2", path, {"command": "read x", "runAsync": True})
    once = keyed(agent, "k2", path, {"command": "read x", "runAsync": True})

    assert first.json() == again.json()
    assert first.json()["stdout"] == "1\n"
    assert (begun.status, once.status) == (202, 202)
    assert begun.json() == once.json()
    commands = agent.request("GET", "/process/session/s").json()["commands"]
    assert [each["id"] for each in commands] == [
        first.json()["cmdId"],
        begun.json()["cmdId"],
    ]


def test_a_full_disk_hides_no_outcome(agent: Agent) -> None:
    directory = agent.state_dir / "idempotency"
    directory.mkdir()
    small = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(directory)]
    if os.geteuid() != 0 or os.system(" ".join(small)) != 0:
        pytest.skip("needs root to mount a small file system")
    try:
        answers = [execute(agent, "k", f"{COUNT}; seq 1 50000") for _ in range(2)]
    finally:
        os.system(f"umount {directory}")

    assert [each.status for each in answers] == [200, 200]
    assert len(answers[0].json()["result"].splitlines()) == 50001
    assert answers[0].json() == answers[1].json()
    assert count(agent) == 1


def test_records_are_private_and_say_nothing_else(agent: Agent) -> None:
    execute(agent, "a-key", COUNT)

    records = list((agent.state_dir / "idempotency").iterdir())
    assert [path.suffix for path in records] == [".answer"]
    assert "a-key" not in records[0].name
    head, body = records[0].read_bytes().split(b"\n", 1)
    assert json.loads(head)["status"] == 200
    assert json.loads(body) == {"exitCode": 0, "result": "1\n"}
    assert (agent.state_dir / "idempotency").stat().st_mode & 0o77 == 0
