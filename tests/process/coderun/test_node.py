"""JavaScript and TypeScript run as CommonJS scripts in the sandbox's own node."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from agent.process.coderun.runtimes import PROGRAMS
from tests.clients.environments import NODE, node_with
from tests.process.coderun.conftest import RunCode
from tests.support.agent import Agent, StartAgent

pytestmark = [pytest.mark.agent, pytest.mark.timeout(60)]

BOTH = pytest.mark.parametrize("language", ["javascript", "typescript"])
OLD_NODE = "/usr/bin/node"
"""Debian's, which knows no types; where it is installed."""


@BOTH
def test_the_output_and_the_exit_code_are_the_codes(
    run: RunCode, language: str
) -> None:
    code = "process.stdout.write('out'); process.stderr.write('err'); process.exit(7)"

    assert run(code, language) == {"exitCode": 7, "result": "outerr"}


@BOTH
def test_arguments_follow_node_at_once(run: RunCode, language: str) -> None:
    words = ["a b", "$X", "", "--help", "'\"\n`id`"]
    code = "console.log(JSON.stringify(process.argv.slice(1)), process.argv.length)"

    answer = run(code, language, argv=words)

    assert answer == {
        "exitCode": 0,
        "result": '["a b","$X","","--help","\'\\"\\n`id`"] 6\n',
    }


@BOTH
def test_standard_input_is_at_its_end(run: RunCode, language: str) -> None:
    code = (
        "process.stdin.on('data', d => console.log('data', String(d)));"
        "process.stdin.on('end', () => console.log('end'))"
    )

    assert run(code, language)["result"] == "end\n"


@BOTH
def test_modules_are_found_from_the_work_dir(
    sandbox: Agent, run: RunCode, language: str
) -> None:
    (sandbox.work_dir / "own.cjs").write_text("exports.name = __filename\n")
    package = sandbox.work_dir / "node_modules/inner"
    package.mkdir(parents=True, exist_ok=True)
    (package / "index.js").write_text("exports.name = 'inner'\n")
    code = (
        "const own = require('./own.cjs'), inner = require('inner');"
        "console.log(own.name, inner.name, require.main === module, typeof exports);"
        "import('inner').then(m => console.log(m.default.name));"
        "import('./own.cjs').then(m => console.log(m.default.name))"
    )

    answer = run(code, language)

    own = f"{sandbox.work_dir}/own.cjs"
    assert sorted(answer["result"].split("\n")) == sorted(
        [f"{own} inner true object", "inner", own, ""]
    )


@BOTH
@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("function f() { throw new Error('bad luck') }\nf()", "bad luck"),
        ("Promise.reject(new Error('bad luck'))", "bad luck"),
        ("setTimeout(() => { throw new Error('bad luck') }, 1)", "bad luck"),
        ("let a = ;", "SyntaxError"),
        ("null.x", "TypeError"),
        ("require('no-such-package')", "Cannot find module 'no-such-package'"),
    ],
)
def test_failures_are_told_and_are_exit_code_1(
    run: RunCode, language: str, code: str, words: str
) -> None:
    answer = run(code, language)

    assert answer["exitCode"] == 1
    assert words in answer["result"]


def test_an_error_names_its_place_in_the_code(run: RunCode) -> None:
    answer = run("\n\n  throw new Error('x')", "javascript")

    assert answer["result"].startswith("[stdin]:3\n")
    assert "at [stdin]:3:9" in answer["result"]


def test_the_top_level_of_a_script_is_that_of_a_commonjs_script(run: RunCode) -> None:
    code = "var a = 1; console.log(globalThis.a, this === globalThis, __filename, __dirname)"

    assert run(code, "javascript")["result"] == "1 true [stdin] .\n"


@BOTH
def test_modules_of_the_new_kind_run_where_node_can(
    sandbox: Agent, run: RunCode, language: str
) -> None:
    (sandbox.work_dir / "mod.mjs").write_text("export const name = 'mod'\n")
    code = (
        "import fs from 'node:fs'\nimport { name } from './mod.mjs'\n"
        "const x = await Promise.resolve(typeof fs.readFileSync)\n"
        "console.log(x, name, typeof require('os').tmpdir, process.argv.slice(1))\n"
        "process.exitCode = 3"
    )

    answer = run(code, language, argv=["a"])

    assert answer == {"exitCode": 3, "result": "function mod function [ 'a' ]\n"}


TYPED = """\
import * as fs from "fs"
import { join } from "path"
interface Shape { size: number }
enum Colour { Red = 4, Green }
namespace N { export const inside = 2 }
class Point { constructor(public readonly x: number, private y?: number) {} }
const list: Array<Shape> = [{ size: 1 } as Shape]
function id<T>(value: T): T { return value }
console.log(id<number>(list[0]!.size), Colour.Green, N.inside, new Point(3).x)
console.log(typeof fs.readFileSync, join("a", "b"), process.argv.slice(1))
process.exit(Colour.Red)
"""
TYPED_RESULT = {"exitCode": 4, "result": "1 5 2 3\nfunction a/b [ 'x y' ]\n"}


def test_typescript_needs_nothing_but_node(run: RunCode) -> None:
    assert run(TYPED, "typescript", argv=["x y"]) == TYPED_RESULT


def test_types_are_not_checked(run: RunCode) -> None:
    answer = run("const x: number = 'text'; console.log(x)", "typescript")

    assert answer == {"exitCode": 0, "result": "text\n"}


@pytest.fixture(scope="module")
def ts_node() -> Path:
    """Return a directory that has ts-node with a compiler."""
    return node_with("ts-node", "10.9.2", "typescript@5.9.3")


SHOWS_TS_NODE = "console.log(Object.keys(process).length > 0, !!process[Symbol.for('ts-node.register.instance')])"


@pytest.mark.clients
@pytest.mark.timeout(280)
@pytest.mark.parametrize("node", [str(NODE), OLD_NODE], ids=["new", "old"])
def test_ts_node_wins_where_it_is_on_the_path(
    start_agent: StartAgent, ts_node: Path, node: str
) -> None:
    if not Path(node).exists():
        pytest.skip("no node of the system's own")
    tools = [str(Path(node).parent), str(ts_node / "node_modules/.bin")]
    path = os.pathsep.join([*tools, os.environ["PATH"]])
    agent = start_agent(env={"PATH": path})

    def run_ts(code: str, **fields: object) -> object:
        body = {"code": code, "language": "typescript", **fields}
        answer = agent.request("POST", "/process/code-run", body, limit_s=60)
        assert answer.status == 200
        return answer.json()

    assert run_ts(TYPED, argv=["x y"]) == TYPED_RESULT
    shown = run_ts(SHOWS_TS_NODE)
    assert shown == {"exitCode": 0, "result": "true true\n"}
    failed = run_ts("throw new Error('bad luck')")
    assert isinstance(failed, dict)
    assert failed["exitCode"] == 1
    assert "bad luck" in failed["result"]


@pytest.mark.clients
@pytest.mark.timeout(280)
def test_ts_node_of_the_project_wins(
    sandbox: Agent, run: RunCode, ts_node: Path
) -> None:
    modules = sandbox.work_dir / "node_modules"
    modules.mkdir(exist_ok=True)
    names = ("ts-node", "typescript")
    for name in names:
        (modules / name).symlink_to(ts_node / "node_modules" / name)
    try:
        assert run(SHOWS_TS_NODE, "typescript")["result"] == "true true\n"
        assert run(TYPED, "typescript", argv=["x y"]) == TYPED_RESULT
    finally:
        for name in names:
            (modules / name).unlink()


def test_a_missing_node_is_127_and_said(run: RunCode) -> None:
    for language in ("javascript", "typescript"):
        answer = run("1", language, envs={"PATH": "/nonexistent"})

        assert answer["exitCode"] == 127
        assert "not found" in answer["result"]


@pytest.fixture
def old_node(tmp_path: Path) -> dict[str, str]:
    """Return an environment with a node that knows no types, and an npx of our own."""
    if not Path(OLD_NODE).exists():
        pytest.skip("no node of the system's own")
    version = subprocess.run([OLD_NODE, "-v"], capture_output=True, check=True).stdout
    if int(version.strip(b"v").split(b".")[0]) >= 22:
        pytest.skip("the system's own node knows types")
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "node").symlink_to(OLD_NODE)
    (tools / "sh").symlink_to(shutil.which("sh") or "/bin/sh")
    return {"PATH": str(tools)}


def test_an_old_node_without_ts_node_and_npx_says_what_is_missing(
    run: RunCode, old_node: dict[str, str]
) -> None:
    answer = run(TYPED, "typescript", envs=old_node)

    assert answer["exitCode"] == 127
    assert "not found" in answer["result"]


def test_an_old_node_asks_npx_for_ts_node(
    run: RunCode, old_node: dict[str, str]
) -> None:
    npx = Path(old_node["PATH"]) / "npx"
    npx.write_text(
        "#!/bin/sh\n"
        'for word in "$@"; do echo "[$word]"; done\n'
        'echo "$npm_config_fetch_retries"; exit 5\n'
    )
    npx.chmod(0o755)

    answer = run("1", "typescript", envs=old_node, argv=["a b"])

    assert answer["exitCode"] == 5
    lines = answer["result"].splitlines()
    assert lines[0] == "[--yes]"
    assert "[--package=ts-node]" in lines
    assert f"[{PROGRAMS / 'run_node.cjs'}]" in lines
    assert "[a b]" in lines
    assert lines[-1] == "0"


def test_an_npx_that_brings_no_ts_node_is_not_asked_again(
    run: RunCode, old_node: dict[str, str]
) -> None:
    npx = Path(old_node["PATH"]) / "npx"
    npx.write_text(
        '#!/bin/sh\necho asked\nwhile [ "$1" != -- ]; do shift; done; shift; "$@"\n'
    )
    npx.chmod(0o755)

    answer = run("1", "typescript", envs=old_node)

    assert answer == {"exitCode": 127, "result": "asked\nts-node: not found\n"}


def test_an_old_node_runs_javascript(run: RunCode, old_node: dict[str, str]) -> None:
    code = (
        "console.log(process.argv.slice(1), require.main === module);"
        "import('fs').then(m => console.log(typeof m.readFileSync))"
    )

    answer = run(code, "javascript", envs=old_node, argv=["a"])

    assert answer == {"exitCode": 0, "result": "[ 'a' ] true\nfunction\n"}
