"""What commands may use: by the agent's settings, and by a request."""

from typing import Any

import pytest

from tests.support.agent import Agent, StartAgent

LOOP = "while :; do :; done"


def run(agent: Agent, command: str, **fields: object) -> tuple[int, str, str | None]:
    """Return exit code, result and the reason of an odd end."""
    answer = agent.execute(command, **fields)
    assert answer.status == 200, answer.body
    body = answer.json()
    reason = answer.headers.get("X-Toolbox-Exit-Reason")
    return body["exitCode"], body["result"], reason


def test_a_request_may_bound_its_command(agent: Agent) -> None:
    bounds = {"openFiles": 33, "cpuSeconds": 1}

    assert run(agent, "ulimit -n", limits=bounds) == (0, "33\n", None)
    assert run(agent, LOOP, limits=bounds) == (152, "", "cpu-limit")
    assert run(agent, "kill -9 $$", limits=bounds)[2] == "signalled"


def test_output_may_be_bounded_by_a_request(agent: Agent) -> None:
    answer = agent.execute("seq 1 1000", limits={"outputBytes": 20})

    assert answer.json()["result"] == "1\n2\n3\n4\n5\n" + "\n999\n1000\n"
    assert answer.headers["X-Toolbox-Dropped-Bytes"] == str(3893 - 20)


@pytest.mark.parametrize(
    "limits", [{"openFiles": 0}, {"openFiles": "3"}, {"cpuSeconds": -1}, []]
)
def test_a_bound_that_is_none_is_refused(agent: Agent, limits: object) -> None:
    answer = agent.execute("true", limits=limits)

    assert (answer.status, answer.json()["code"]) == (400, "INVALID_REQUEST_BODY")


def test_the_settings_bound_every_command(start_agent: StartAgent) -> None:
    agent = start_agent(
        "--limit-open-files", "64", "--limit-cpu-s", "1", "--limit-wall-s", "2"
    )

    assert run(agent, "ulimit -n")[1] == "64\n"
    assert run(agent, "ulimit -n", limits={"openFiles": 1000})[1] == "64\n"
    assert run(agent, "ulimit -n", limits={"openFiles": 32})[1] == "32\n"
    assert run(agent, LOOP) == (152, "", "cpu-limit")
    slow = agent.execute("sleep 60", timeout=50)
    assert (slow.status, slow.json()["code"]) == (408, "PROCESS_EXECUTION_TIMEOUT")
    code = agent.request(
        "POST",
        "/process/code-run",
        {
            "language": "python",
            "code": "import resource as r; print(r.getrlimit(r.RLIMIT_NOFILE))",
        },
    )
    assert code.json()["result"] == "(64, 64)\n"


def test_sessions_and_their_commands_are_bounded(start_agent: StartAgent) -> None:
    agent = start_agent("--limit-open-files", "64", "--limit-wall-s", "1")
    agent.request("POST", "/process/session", {"sessionId": "s"})

    def execute(command: str, **fields: object) -> tuple[int, Any]:
        answer = agent.request(
            "POST",
            "/process/session/s/exec",
            {"command": command, **fields},
            {"X-Daytona-SDK-Version": "0.226.1"},
        )
        return answer.status, answer.json()

    assert execute("ulimit -n")[1]["stdout"] == "64\n"
    bounded = execute("sh -c 'ulimit -n'", limits={"openFiles": 20})
    assert bounded[1]["stdout"] == "20\n"
    assert execute("sh -c 'ulimit -n'")[1]["stdout"] == "64\n"
    status, told = execute("sleep 60", timeout=30)
    assert (status, told["code"]) == (408, "PROCESS_EXECUTION_TIMEOUT")
    assert execute("echo alive")[1]["stdout"] == "alive\n"
