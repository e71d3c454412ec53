"""`POST /process/code-run` on a real agent: what it refuses, limits and lets live."""

import json
import os
import time
from typing import Any

import pytest

from tests.clients.environments import tools_path
from tests.process.coderun.conftest import RunCode
from tests.support.agent import Agent, StartAgent
from tests.support.processes import alive, end_all, wait_gone

pytestmark = [pytest.mark.agent, pytest.mark.timeout(60)]

MIB = 1024 * 1024
CHART = b'dtn_artifact_k39fd2:{"type":"chart","value":{"type":"line"}}'
PRINT_CHART = f"print({CHART.decode()!r})"


def post(agent: Agent, body: object, **headers: str) -> Any:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return agent.request("POST", "/process/code-run", data, headers, limit_s=50)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"language": "ruby"}, "unsupported language: ruby"),
        ({"language": ""}, "unsupported language: "),
        ({"language": "Python"}, "unsupported language: Python"),
        ({"code": ""}, "code cannot be empty"),
        ({"envs": {"1A": "x"}}, "invalid environment variable name: '1A'"),
        ({"envs": {"A": "\0"}}, "NUL"),
        ({"argv": ["a\0b"]}, "NUL"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(
    sandbox: Agent, fields: dict[str, object], words: str
) -> None:
    answer = post(sandbox, {"code": "1", "language": "python", **fields})

    assert (answer.status, answer.json()["code"]) == (400, "BAD_REQUEST")
    assert words in answer.json()["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"code":"1"}',
        b'{"language":"python"}',
        b'{"code":1,"language":"python"}',
        b'{"code":"1","language":"python","timeout":-1}',
        b'{"code":"1","language":"python","argv":"a"}',
        b'{"code":"1","language":"python","argv":[1]}',
        b'{"code":"1","language":"python","envs":{"A":1}}',
    ],
)
def test_a_bad_body_is_refused(sandbox: Agent, body: bytes) -> None:
    answer = post(sandbox, body)

    assert (answer.status, answer.json()["code"]) == (400, "INVALID_REQUEST_BODY")


def test_nulls_count_as_absent_and_unknown_keys_are_ignored(sandbox: Agent) -> None:
    answer = post(
        sandbox,
        {
            "code": "print(1)",
            "language": "python",
            "argv": None,
            "envs": None,
            "timeout": None,
            "env": {"A": 1},
        },
    )

    assert answer.json() == {"exitCode": 0, "result": "1\n"}


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("python", "import os; print(os.environ['K'], os.environ['BOTH'])"),
        ("javascript", "console.log(process.env.K, process.env.BOTH)"),
        ("typescript", "console.log(process.env.K, process.env.BOTH)"),
    ],
)
def test_the_environment_is_the_agents_and_the_requests(
    start_agent: StartAgent, language: str, code: str
) -> None:
    env = {"PATH": tools_path(), "BOTH": "agent"}
    agent = start_agent(env=env)

    answer = post(
        agent,
        {"code": code, "language": language, "envs": {"K": "a;$X", "BOTH": "it"}},
    )

    assert answer.json() == {"exitCode": 0, "result": "a;$X it\n"}


@pytest.mark.parametrize(
    ("language", "code"),
    [
        (
            "python",
            (
                "import subprocess as s\n"
                "c = [s.Popen(['sleep', '99']), s.Popen(['setsid', 'sleep', '99'])]\n"
                "print(*[x.pid for x in c], file=open('pids', 'w'))\n"
                "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(99)"
            ),
        ),
        (
            "javascript",
            (
                "const c = require('child_process'), o = {detached: true};"
                "const p = [c.spawn('sleep', ['99']).pid, c.spawn('sleep', ['99'], o).pid];"
                "require('fs').writeFileSync('pids', p.join(' '));"
                "process.on('SIGTERM', () => {}); setTimeout(() => {}, 99000)"
            ),
        ),
    ],
)
def test_a_timeout_kills_the_whole_tree_and_answers_in_time(
    sandbox: Agent, language: str, code: str
) -> None:
    started = time.monotonic()

    answer = post(sandbox, {"code": code, "language": language, "timeout": 1})

    took = time.monotonic() - started
    assert answer.status == 408
    assert answer.json()["code"] == "PROCESS_EXECUTION_TIMEOUT"
    assert 1.0 <= took < 3.0
    pids = (sandbox.work_dir / "pids").read_text().split()
    assert len(pids) == 2
    assert all(wait_gone(int(pid)) for pid in pids)


def test_a_background_child_neither_delays_the_answer_nor_dies(run: RunCode) -> None:
    started = time.monotonic()

    answer = run("import subprocess; print(subprocess.Popen(['sleep', '60']).pid)")

    took = time.monotonic() - started
    pid = int(answer["result"])
    try:
        assert took < 5
        assert alive(pid)
    finally:
        end_all([pid])


def test_what_cannot_be_started_is_a_result(start_agent: StartAgent) -> None:
    agent = start_agent(env={"PATH": tools_path()})

    long = post(agent, {"code": "1", "language": "python", "argv": ["x" * 200_000]})
    agent.work_dir.rmdir()
    nowhere = post(agent, {"code": "1", "language": "python"})
    agent.work_dir.mkdir()

    assert (long.status, long.json()["exitCode"]) == (200, -1)
    assert "too long" in long.json()["result"]
    assert (nowhere.status, nowhere.json()["exitCode"]) == (200, -1)
    assert "chdir" in nowhere.json()["result"]


def test_output_that_is_not_text_has_replacements(run: RunCode) -> None:
    answer = run(r"import os; os.write(1, b'\xff\0a\xe6\xbc')")

    assert answer["result"] == "\ufffd\0a\ufffd"


def test_both_outputs_come_in_the_order_they_were_written(run: RunCode) -> None:
    answer = run(
        "import os\nfor n in range(300):\n"
        "    os.write(1, b'%d\\n' % n); os.write(2, b'%d\\n' % n)"
    )

    assert answer["result"] == "".join(f"{n}\n{n}\n" for n in range(300))


def test_a_long_output_is_complete_and_its_artifacts_are_charts(run: RunCode) -> None:
    answer = run(
        f"for n in range(100_000):\n    print('漢字 line', n)\n"
        f"    if n % 25_000 == 0: {PRINT_CHART}"
    )

    assert answer["result"] == "".join(f"漢字 line {n}\n" for n in range(100_000))
    assert answer["artifacts"] == {"charts": [{"type": "line"}] * 4}


def test_an_artifact_of_megabytes_is_taken_from_a_long_output(run: RunCode) -> None:
    answer = run(
        "import json\n"
        "chart = {'type': 'line', 'png': 'A' * 3_000_000}\n"
        "print('x' * 300_000)\n"
        "print('dtn_artifact_k39fd2:' + json.dumps({'type': 'chart', 'value': chart}))\n"
        "print('end')"
    )

    assert answer["result"] == "x" * 300_000 + "\nend\n"
    assert len(answer["artifacts"]["charts"][0]["png"]) == 3_000_000


def test_output_past_the_bound_keeps_head_and_tail_and_says_so(
    start_agent: StartAgent,
) -> None:
    agent = start_agent("--result-max-bytes", str(MIB), env={"PATH": tools_path()})
    code = "for n in range(300_000): print(n)"

    answer = post(agent, {"code": code, "language": "python"})

    whole = "".join(f"{n}\n" for n in range(300_000))
    text = answer.json()["result"]
    assert len(text) == MIB
    assert int(answer.headers["X-Toolbox-Dropped-Bytes"]) == len(whole) - MIB
    assert whole.startswith(text[: MIB // 2])
    assert whole.endswith(text[MIB // 2 :])
    assert list((agent.state_dir / "spool").iterdir()) == []


def test_a_client_that_leaves_does_not_end_the_code(sandbox: Agent) -> None:
    for name in ("going", "done"):
        (sandbox.work_dir / name).unlink(missing_ok=True)
        os.mkfifo(sandbox.work_dir / name)
    code = "open('going', 'w').write('x'); open('got', 'w').write(open('done').read())"
    body = json.dumps({"code": code, "language": "python"}).encode()
    with sandbox.connection() as connection:
        connection.sendall(
            b"POST /process/code-run HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n"
            b"Authorization: Bearer %s\r\n\r\n%s"
            % (len(body), sandbox.token.encode(), body)
        )
        (sandbox.work_dir / "going").read_text()

    (sandbox.work_dir / "done").write_text("it went on\n")

    answer = sandbox.execute("while [ ! -s got ]; do :; done; cat got", timeout=5)
    assert answer.json()["result"] == "it went on\n"


def test_more_runs_than_allowed_get_429(start_agent: StartAgent) -> None:
    agent = start_agent("--max-commands", "1", env={"PATH": tools_path()})
    going = post(agent, {"code": "1", "language": "python"})
    assert going.status == 200
    agent.execute("true")
    pid = agent.work_dir / "pid"
    os.mkfifo(pid)

    held = json.dumps({"command": "echo $$ > pid; exec sleep 60"}).encode()
    with agent.connection() as connection:
        connection.sendall(
            b"POST /process/execute HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n"
            b"Authorization: Bearer %s\r\n\r\n%s"
            % (len(held), agent.token.encode(), held)
        )
        holder = int(pid.read_text())
        answer = post(agent, {"code": "1", "language": "python"})
        end_all([holder])

    assert (answer.status, answer.json()["code"]) == (429, "TOO_MANY_REQUESTS")
