"""The process list and the end of trees, against a whole agent."""

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.process.inventory.conftest import Desk
from tests.support.agent import Agent, StartAgent
from tests.support.processes import alive, tree, wait_gone

SLEEP = "sleep 600 >/dev/null 2>&1"
STUBBORN = (
    "import os, signal, sys, time\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "child = os.fork()\n"
    "if child: open(sys.argv[1], 'w').write(f'{os.getpid()} {child}')\n"
    "time.sleep(600)\n"
)
"""It and its child ignore to be asked."""


def test_an_idle_agent_runs_nothing(desk: Desk) -> None:
    assert desk.all() == []


def test_a_session_is_told_with_its_command_and_tree(desk: Desk) -> None:
    desk.session("work")
    command_id, (shell, sleep) = desk.start(
        "work", f"{SLEEP} & echo $$ $! >$told; wait"
    )

    told = desk.one("work")

    assert (told["kind"], told["pid"], told["state"]) == ("session", shell, "running")
    assert told["runningCommand"]["id"] == command_id
    assert told["runningCommand"]["command"].endswith("echo $$ $! >$told; wait")
    assert told["runningCommand"]["ageSeconds"] <= told["ageSeconds"]
    assert told["startedAt"].endswith("Z")
    first, second = told["processes"]
    assert (first["pid"], second["pid"], second["ppid"]) == (shell, sleep, shell)
    assert (second["name"], second["argv"]) == ("sleep", ["sleep", "600"])
    assert second["state"] == "sleeping"
    assert second["threads"] == 1
    assert second["rssBytes"] > 0
    assert told["processCount"] == 2
    assert told["memoryKind"] == "pss"
    assert 0 < told["memoryBytes"] < first["rssBytes"] + second["rssBytes"]


def test_an_idle_session_runs_no_command(desk: Desk) -> None:
    desk.session("idle")
    desk.run("idle", "true")

    assert "runningCommand" not in desk.one("idle")


def test_what_left_its_session_still_belongs_to_it(desk: Desk) -> None:
    desk.session("work")
    _, pids = desk.start(
        "work",
        f"exec 9>$told; echo $$ >&9;"
        f" setsid sh -c 'echo $$ >&9; exec 9>&-; {SLEEP}' &"
        f" (setsid sh -c 'echo $$ >&9; exec 9>&-; {SLEEP}' &); exec 9>&-; wait",
    )

    told = desk.one("work")

    assert len(pids) == 3
    assert set(pids) <= {each["pid"] for each in told["processes"]}
    assert len(desk.all()) == 1


def test_what_emptied_its_environment_is_found_by_its_session(desk: Desk) -> None:
    desk.session("work")
    _, (pid,) = desk.start(
        "work", f"(env -i sh -c 'echo $$ >{desk.fifo}; {SLEEP}; :' &) ; :"
    )

    assert desk.holding(pid)["id"] == "work"


def test_a_running_command_is_told_with_its_line(desk: Desk) -> None:
    # The client gives up on it; the command goes on.
    with pytest.raises(TimeoutError):
        desk.agent.request(
            "POST",
            "/process/execute",
            {"command": f"{SLEEP}; true"},
            limit_s=0.5,
        )

    (told,) = desk.all()

    assert (told["kind"], told["state"]) == ("command", "running")
    assert told["command"] == f"{SLEEP}; true"


def test_what_a_command_left_behind_is_told_and_can_be_ended(desk: Desk) -> None:
    answer = desk.agent.execute(f"setsid {SLEEP} & echo $!")
    pid = int(answer.json()["result"])

    (told,) = desk.all()

    assert (told["kind"], told["state"]) == ("command", "background")
    assert (told["pid"], told["command"]) == (pid, "sleep 600")
    assert desk.end(pid) == 204
    assert not alive(pid)
    assert desk.all() == []


def test_terminals_and_contexts_are_told_by_the_clients_names(desk: Desk) -> None:
    agent = desk.agent
    assert agent.request("POST", "/process/pty", {"id": "screen"}).status == 201
    created = agent.request("POST", "/process/interpreter/context", {})
    assert created.status == 200, created.body

    kinds = {each["id"]: each["kind"] for each in desk.all()}

    assert kinds == {"screen": "pty", created.json()["id"]: "context"}


def test_the_entrypoint_is_told(start_agent: StartAgent) -> None:
    agent = start_agent(entrypoint=["sleep", "600"])

    (told,) = agent.request("GET", "/process").json()

    assert (told["kind"], told["id"]) == ("entrypoint", "entrypoint")
    assert told["command"] == "sleep 600"


def test_the_agents_own_processes_are_told_when_asked_for(
    agent: Agent, desk: Desk
) -> None:
    told = {each["kind"]: each for each in desk.all("?all=true")}

    assert set(told) == {"api", "keeper"}
    assert told["keeper"]["pid"] == agent.pid
    assert told["api"]["pid"] == agent.api_pid()
    assert told["api"]["state"] == told["keeper"]["state"] == "running"


def test_a_zombie_is_told_as_one(desk: Desk) -> None:
    desk.session("work")
    program = (
        "import os, sys, time\n"
        "child = os.fork()\n"
        "if not child: os._exit(0)\n"
        "os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)\n"
        "open(sys.argv[1], 'w').write(str(child))\n"
        "time.sleep(600)\n"
    )
    script = desk.agent.work_dir / "zombie.py"
    script.write_text(program)
    _, (pid,) = desk.start("work", f"{sys.executable} {script} $told")

    told = desk.holding(pid)

    assert [each["state"] for each in told["processes"] if each["pid"] == pid] == [
        "zombie"
    ]
    assert desk.end(pid) == 404


# -- ending -----------------------------------------------------------------------


def test_the_end_of_a_shell_is_the_sessions_end(desk: Desk) -> None:
    desk.session("work")
    _, (shell, sleep) = desk.start("work", f"setsid {SLEEP} & echo $$ $! >$told; wait")

    assert desk.end(shell, "?grace=0") == 204

    assert not alive(shell)
    assert not alive(sleep)
    path = "/process/session/work/exec"
    answer = desk.agent.request("POST", path, {"command": "true"})
    assert (answer.status, answer.json()["code"]) == (410, "SESSION_ENDED")


def test_the_end_of_a_branch_leaves_the_rest(desk: Desk) -> None:
    desk.session("work")
    _, (branch, leaf) = desk.start(
        "work",
        "sh -c 'sleep 600 & echo $$ $! >'$told'; wait'; echo after",
    )

    assert desk.end(branch) == 204

    assert not alive(branch)
    assert not alive(leaf)
    assert desk.run("work", "echo lives")["output"] == "lives\n"


def test_what_ignores_to_be_asked_is_killed_after_the_grace(
    desk: Desk, tmp_path: Path
) -> None:
    script = tmp_path / "stubborn.py"
    script.write_text(STUBBORN)
    desk.session("work")
    _, (parent, child) = desk.start("work", f"{sys.executable} {script} $told")

    assert desk.end(parent, "?grace=0.1") == 204

    assert not alive(parent)
    assert not alive(child)
    assert desk.run("work", "echo lives")["output"] == "lives\n"


def test_who_is_asked_may_clean_up_first(desk: Desk) -> None:
    desk.session("work")
    trap = "sh -c 'trap \"echo clean >mark; exit\" TERM; echo $$ >'$told'; sleep 600 & wait'"
    _, (pid,) = desk.start("work", trap)

    assert desk.end(pid, "?grace=8") == 204

    assert (desk.agent.work_dir / "mark").read_text() == "clean\n"


def test_a_stopped_process_is_ended_too(desk: Desk) -> None:
    pid = int(desk.agent.execute(f"{SLEEP} & echo $!").json()["result"])
    os.kill(pid, signal.SIGSTOP)

    assert desk.end(pid) == 204
    assert not alive(pid)


def test_what_forks_while_it_is_killed_does_not_escape(desk: Desk) -> None:
    desk.session("work")
    forking = (
        "sh -c 'echo $$ >'$told'; while :; do (sleep 600 &) ; (sleep 0.01 &) ; done'"
        " >/dev/null 2>&1"
    )
    _, (pid,) = desk.start("work", f"setsid -w {forking}")

    assert desk.end(pid, "?grace=0") == 204

    assert not alive(pid)
    left = [each for each in desk.one("work")["processes"] if each["name"] == "sleep"]
    assert left == []


@pytest.mark.parametrize("pid", ["abc", "0", "-1", "99999999", "1.5", "%31%00"])
def test_what_is_no_process_id_is_refused(desk: Desk, pid: str) -> None:
    assert desk.end(pid) == 400


@pytest.mark.parametrize("grace", ["-1", "61", "soon"])
def test_a_grace_out_of_bounds_is_refused(desk: Desk, grace: str) -> None:
    assert desk.end(4194304, f"?grace={grace}") == 400


def test_what_the_agent_does_not_run_is_not_found(desk: Desk) -> None:
    answer = desk.agent.request("DELETE", f"/process/{os.getpid()}")

    assert answer.status == 404
    assert answer.json()["code"] == "PROCESS_NOT_FOUND"
    assert desk.end(4194304) == 404


def test_what_has_ended_is_not_found(desk: Desk) -> None:
    pid = int(desk.agent.execute(f"{SLEEP} & echo $!").json()["result"])
    assert desk.end(pid) == 204

    assert desk.end(pid) == 404


def test_the_agent_itself_is_not_ended(agent: Agent, desk: Desk) -> None:
    before = {agent.pid, agent.api_pid()}

    answer = agent.request("DELETE", f"/process/{agent.api_pid()}")
    assert (answer.status, answer.json()["code"]) == (403, "FORBIDDEN")
    assert desk.end(agent.pid) == 403

    assert {agent.pid, agent.api_pid()} == before


def test_a_helper_is_listed_only_when_asked_for_and_not_ended(
    agent: Agent, desk: Desk
) -> None:
    with agent.connection() as connection:
        head = f"GET /files/watch?path=. HTTP/1.1\r\nHost: localhost:{agent.port}\r\n"
        head += f"Authorization: {agent.auth['Authorization']}\r\n\r\n"
        connection.sendall(head.encode())
        assert b"200" in connection.recv(4096)

        (helper,) = tree(agent.pid) - {agent.api_pid()}
        assert desk.all() == []
        assert desk.holding(helper, "?all=true")["kind"] == "watcher"
        assert desk.end(helper) == 403
        assert alive(helper)


def test_after_an_apis_death_the_next_one_knows_all(agent: Agent, desk: Desk) -> None:
    desk.session("work")
    _, (shell, sleep) = desk.start("work", f"setsid {SLEEP} & echo $$ $! >$told; wait")
    api = agent.api_pid()
    os.kill(api, signal.SIGKILL)
    assert wait_gone(api)

    told = desk.one("work")

    assert {shell, sleep} <= {each["pid"] for each in told["processes"]}
    assert desk.end(shell, "?grace=0") == 204
    assert not alive(sleep)
