"""Contexts in JavaScript, TypeScript and bash."""

import os
import time
from collections.abc import AsyncIterator

import pytest

from tests.clients.environments import NODE
from tests.interpreter.conftest import Desk, asking, running
from tests.support.agent import Agent, StartAgent

WITH_NODE = f"{NODE.parent}{os.pathsep}{os.environ['PATH']}"


@pytest.fixture
def agent(start_agent: StartAgent) -> Agent:
    """Return a running agent whose `node` is a recent one."""
    return start_agent(env={"PATH": WITH_NODE})


@pytest.fixture
async def desk(agent: Agent) -> AsyncIterator[Desk]:
    """Return a client of that agent."""
    async with asking(agent) as desk:
        yield desk


LANGUAGES = ("python", "javascript", "typescript", "bash")
LOOP = {
    "python": "while True: pass",
    "javascript": "while (true) {}",
    "typescript": "while (true as boolean) {}",
    "bash": "while :; do for i in 1 2; do :; done; done",
}
WAIT = {
    "python": "import time; time.sleep(60)",
    "javascript": "await new Promise(() => setTimeout(() => {}, 60000))",
    "typescript": "await new Promise<void>(() => setTimeout(() => {}, 60000))",
    "bash": "f() { sleep 60 | cat; echo no; }; f; echo no",
}
SET = {
    "python": "x = 7",
    "javascript": "let x = 7",
    "typescript": "let x: number = 7",
    "bash": "x=7",
}
SHOW = {
    "python": "print(x)",
    "javascript": "console.log(x)",
    "typescript": "console.log(x as number)",
    "bash": "echo $x",
}
KILL = {
    "python": "import os; os.kill(os.getpid(), 9)",
    "javascript": "process.kill(process.pid, 9)",
    "typescript": "process.kill(process.pid, 9)",
    "bash": "kill -9 $$",
}
VARIABLES = {
    "python": "import os; print(os.environ.get('A'), os.environ.get('B'))",
    "javascript": "console.log(process.env.A ?? 'None', process.env.B ?? 'None')",
    "typescript": "console.log(process.env.A ?? 'None', process.env.B ?? 'None')",
    "bash": 'echo "${A-None} ${B-None}"',
}
FLOOD = {
    "python": "print('é' * 1000000)",
    "javascript": "console.log('é'.repeat(1000000))",
    "typescript": "console.log('é'.repeat(1000000))",
    "bash": "for i in $(seq 1000000); do printf é; done; echo",
}


@pytest.mark.parametrize("language", LANGUAGES)
async def test_state_outlasts_runs_limits_and_long_output(
    desk: Desk, language: str
) -> None:
    context = await desk.create(language=language)
    assert (await desk.run(SET[language], context)).ended_well

    flood = await desk.run(FLOOD[language], context)
    loop = await desk.run(LOOP[language], context, timeout=0.3)
    wait = await desk.run(WAIT[language], context, timeout=0.3)
    shown = await desk.run(SHOW[language], context)

    assert flood.stdout == "é" * 1_000_000 + "\n"
    assert (loop.code, wait.code) == (4008, 4008)
    assert not loop.messages
    assert not wait.messages
    assert shown.stdout == "7\n"
    assert not shown.stderr
    assert (await desk.contexts())[0]["language"] == language


@pytest.mark.parametrize("language", LANGUAGES)
async def test_a_killed_worker_is_told_of_and_replaced(
    desk: Desk, language: str
) -> None:
    context = await desk.create(language=language)
    started = time.monotonic()

    ran = await desk.run(KILL[language], context)

    assert time.monotonic() - started < 2
    assert ran.error is not None
    assert ran.error["name"] == "WorkerProcessError"
    assert (ran.code, ran.controls) == (1011, [])
    assert (await desk.run(SET[language], context)).ended_well
    assert (await desk.run(SHOW[language], context)).stdout == "7\n"


@pytest.mark.parametrize("language", LANGUAGES)
async def test_variables_are_those_of_the_run(desk: Desk, language: str) -> None:
    context = await desk.create(language=language)
    show = VARIABLES[language]

    first = await desk.run(show, context, envs={"A": "a b;$c é", "B": "2"})
    second = await desk.run(show, context, envs={"A": "", "B": None})
    last = await desk.run(show, context)

    assert first.stdout == "a b;$c é 2\n"
    assert second.stdout == " None\n"
    assert last.stdout == "None None\n"


async def test_javascript_may_declare_again_import_and_await(
    desk: Desk, agent: Agent
) -> None:
    (agent.work_dir / "mine.mjs").write_text("export default 5; export const six = 6;")
    context = await desk.create(language="javascript")

    ran = [
        await desk.run(code, context)
        for code in (
            "const a = 1; console.log(a)",
            "const a = 2; console.log(a)",
            'import five, { six as s } from "./mine.mjs"; console.log(five, s)',
            'import * as fs from "node:fs"\nimport "./mine.mjs"\nconsole.log(typeof fs.open)',
            'const { six } = await import("./mine.mjs"); console.log(six)',
            'console.log(require("node:path").basename("/x/y"))',
            "console.log('import(1)', `import x from \"y\"`) // import z from 'q'",
        )
    ]

    assert [each.stdout for each in ran] == [
        "1\n",
        "2\n",
        "5 6\n",
        "function\n",
        "6\n",
        "y\n",
        'import(1) import x from "y"\n',
    ]


async def test_javascript_exceptions_are_told_with_own_frames(desk: Desk) -> None:
    context = await desk.create(language="javascript")
    await desk.run("function f() {\n  throw new TypeError('boom')\n}", context)

    ran = await desk.run("\nf()", context)
    rejected = await desk.run("await Promise.reject(new RangeError('far'))", context)
    syntax = await desk.run("let 5", context)
    thrown = await desk.run("throw 'text'", context)
    left = await desk.run("process.exit(3)", context)

    assert ran.error is not None
    assert (ran.error["name"], ran.error["value"]) == ("TypeError", "boom")
    assert ran.error["traceback"] == (
        "TypeError: boom\n    at f (<stdin>:2:9)\n    at <stdin>:2:1\n"
    )
    assert [
        each.error and each.error["name"] for each in (rejected, syntax, thrown)
    ] == [
        "RangeError",
        "SyntaxError",
        "Uncaught",
    ]
    assert left.ended_well


async def test_typescript_loses_its_types(desk: Desk) -> None:
    context = await desk.create(language="typescript")

    ran = await desk.run(
        "interface A { n: number }\n"
        "enum E { X = 4 }\n"
        "const a: A = { n: 1 }\n"
        "console.log(a.n, E.X)",
        context,
    )
    wrong = await desk.run("let q: = 3", context)

    assert ran.stdout == "1 4\n"
    assert not ran.stderr
    assert wrong.error is not None
    assert wrong.error["name"] == "SyntaxError"


async def test_javascript_values_are_told_when_asked_for(desk: Desk) -> None:
    context = await desk.create(language="javascript")

    ran = await desk.run("display('first'); ({ a: [1, null] })", context, rich=True)
    plain = await desk.run("1 + 1", context)

    assert [(each["type"], each["text"]) for each in ran.rich] == [
        ("display", "first"),
        ("result", "{ a: [ 1, null ] }"),
    ]
    assert ran.rich[1]["data"] == {"application/json": {"a": [1, None]}}
    assert len(plain.messages) == 1


async def test_bash_keeps_functions_arrays_and_directories(desk: Desk) -> None:
    context = await desk.create(language="bash")
    await desk.run("declare -A m=([a]=1); f() { echo f $1; }; cd /; set -u", context)

    ran = await desk.run('echo "${m[a]}"; f 2; pwd; echo e >&2; read x; cat', context)
    failed = await desk.run("(exit 3)", context)

    assert (ran.stdout, ran.stderr) == ("1\nf 2\n/\n", "e\n")
    assert failed.error is not None
    assert failed.error["name"] == "CommandError"
    assert failed.error["value"] == "exit code 3"


async def test_exit_in_bash_ends_the_run_and_the_shell(desk: Desk) -> None:
    context = await desk.create(language="bash")

    left = await desk.run("x=1; echo out; exit 4", context)
    well = await desk.run('echo "${x-unset}"; exit', context)

    assert left.stdout == "out\n"
    assert left.error is not None
    assert left.error["value"] == "exit code 4"
    assert (left.code, left.controls) == (1000, ["completed"])
    assert well.stdout == "unset\n"
    assert well.ended_well


async def test_children_of_bash_see_no_descriptor_of_ours(desk: Desk) -> None:
    context = await desk.create(language="bash")

    ran = await desk.run("ls -1 /proc/self/fd", context)

    # The last one is the listing's own.
    assert ran.stdout.split() == ["0", "1", "2", "3"]


async def test_a_background_child_of_bash_lives_on(desk: Desk) -> None:
    context = await desk.create(language="bash")

    ran = await desk.run("sleep 60 & echo $!", context)
    await desk.run("true", context)

    assert ran.ended_well
    assert running(int(ran.stdout))


async def test_code_that_bash_cannot_take_is_refused(desk: Desk) -> None:
    context = await desk.create(language="bash")

    nul = await desk.run("echo \0", context)
    long = await desk.run("#" * 600_000, context)

    assert (nul.code, "NUL" in nul.reason) == (1008, True)
    assert (long.code, "at most" in long.reason) == (1008, True)
    assert (await desk.run("echo ok", context)).stdout == "ok\n"


async def test_a_language_that_is_not_installed_is_told(
    agent: Agent,
) -> None:
    async with asking(agent) as desk:
        variables = {"set": {"PATH": "/nowhere"}}
        async with desk.session.post(f"{agent.url}/env", json=variables) as answer:
            assert answer.status == 200
        status, told = await desk.ask("POST", "context", {"language": "javascript"})
        ran = await desk.run("1")

    assert (status, told["code"]) == (500, "INTERNAL_SERVER_ERROR")
    assert "not found on PATH" in told["message"]
    assert ran.code == 1011
    assert ran.reason.startswith("failed to get default context: exec python3")
