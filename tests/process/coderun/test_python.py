"""Python code runs as `python3 -u -` would run it."""

import os
import subprocess

import pytest

from tests.clients.environments import tools_path
from tests.process.coderun.conftest import RunCode
from tests.support.agent import Agent

pytestmark = [pytest.mark.agent, pytest.mark.timeout(60)]

PROGRAMS = {
    "empty line": "\n",
    "arguments": "import sys; print(sys.argv)",
    "globals": "print(sorted(globals()), __name__, __file__, __doc__, __spec__)",
    "main module": "import __main__; x = 1; print(__main__.x, __loader__)",
    "path": "import sys; print(repr(sys.path[0]), sys.path[1:])",
    "flags": "import sys; print(sys.flags, sys.stdout.encoding, sys.executable)",
    "input": "print(input())",
    "exception": "def f():\n    1 / 0\n\nf()",
    "chained": "try:\n    1 / 0\nexcept Exception as e:\n    raise KeyError('k') from e",
    "in an import": "import json\njson.loads('{')",
    "syntax": "x = (\n",
    "indentation": "if 1:\nx",
    "warning at compile time": "print('a' is 'a')",
    "warning": "import warnings; warnings.warn('careful')",
    "exit": "import sys; sys.exit(7)",
    "exit with words": "import sys; sys.exit('bad luck')",
    "exit by raise": "raise SystemExit",
    "exit at once": "import os; os._exit(9)",
    "interrupt": "raise KeyboardInterrupt",
    "killed": "import os; os.kill(os.getpid(), 9)",
    "terminated": "import os; os.kill(os.getpid(), 15)",
    "at exit": "import atexit; atexit.register(print, 'bye'); 1 / 0",
    "hook": "import sys; sys.excepthook = lambda *e: print(e[0], e[2].tb_lineno); 1 / 0",
    "last": "import sys, atexit\natexit.register(lambda: print(sys.last_value)); 1 / 0",
    "group": "raise ExceptionGroup('g', [ValueError(1), KeyError(2)])",
    "note": "e = ValueError(1); e.add_note('n'); raise e",
    "order": "import sys\nfor n in range(50):\n    print(n); print(n, file=sys.stderr)",
    "no newline": "print('x', end='')",
    "unicode": "print('\u6f22\u5b57 \u00fc \U0001f600')",
    "mark of order": "\ufeffprint(1)",
    "line ends": "print(1)\r\nprint(2)\r\n",
    "future": "from __future__ import annotations\ndef f(x: y): pass\nprint(f.__annotations__)",
    "no future of ours": "def f(x: int): pass\nprint(f.__annotations__)",
    "pickle": "import pickle\nclass A: pass\nprint(type(pickle.loads(pickle.dumps(A()))))",
    "fork": "import multiprocessing as m\nc = m.get_context('fork')\n"
    "p = c.Process(target=print, args=(1,)); p.start(); p.join(); print(p.exitcode)",
    "threads": "import threading\nthreading.Thread(target=lambda: 1 / 0).start()",
    "late thread": "import threading, time\n"
    "threading.Thread(target=lambda: (time.sleep(.1), print('late'))).start()\nprint('end')",
    "destructors": "class A:\n    def __del__(self): print('gone')\na = A()",
    "imports": "import sys; print(sys.modules['__main__'].__dict__ is globals())",
    "deep": "def f(n): return f(n + 1)\ntry:\n    f(0)\nexcept RecursionError as e: print(e)",
    "asyncio": "import asyncio\nasync def f(): return 5\nprint(asyncio.run(f()))",
    "class module": "class A: pass\nprint(A, A.__module__)",
}  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_code_runs_as_on_the_standard_input_of_python(
    sandbox: Agent, run: RunCode, name: str
) -> None:
    code = PROGRAMS[name]
    arguments = ["a b", "$X", "", "--help", "'\"\n"]

    answer = run(code, argv=arguments)

    reference = subprocess.run(
        ["python3", "-u", "-", *arguments],
        input=code.encode(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=sandbox.work_dir,
        env={**os.environ, "PATH": tools_path(), "HOME": str(sandbox.home)},
        check=False,
    )
    status = reference.returncode
    assert answer["exitCode"] == (status if status >= 0 else 128 - status)
    assert answer["result"] == reference.stdout.decode("utf-8", "replace")


def test_the_contracts_example_of_arguments(run: RunCode) -> None:
    answer = run("import sys;print(sys.argv)", argv=["a b", "$X"])

    assert answer == {"exitCode": 0, "result": "['-', 'a b', '$X']\n"}


def test_the_contracts_example_of_a_bad_marker(run: RunCode) -> None:
    answer = run("print('a')\nprint('dtn_artifact_k39fd2:{bad')\nprint('b')")

    assert answer == {"exitCode": 0, "result": "a\nb\n"}


def test_code_sees_an_empty_standard_input_and_not_itself(run: RunCode) -> None:
    answer = run("import sys\nprint(repr(sys.stdin.read()), sys.stdin.fileno())")

    assert answer["result"] == "'' 0\n"


def test_descriptor_three_is_free_for_the_code(run: RunCode) -> None:
    answer = run("import os\nprint(os.open('/dev/null', os.O_RDONLY))")

    assert answer["result"] == "3\n"


def test_modules_of_the_work_dir_can_be_imported_and_ours_cannot(
    sandbox: Agent, run: RunCode
) -> None:
    (sandbox.work_dir / "own.py").write_text("NAME = __file__\n")
    (sandbox.work_dir / "figures.py").write_text("NAME = 'not the agent'\n")

    answer = run("import own, figures\nprint(own.NAME, figures.NAME)")

    assert answer["result"] == f"{sandbox.work_dir}/own.py not the agent\n"
    taken = run("import run_python")
    assert "ModuleNotFoundError" in taken["result"]


def test_a_safe_path_stays_safe(run: RunCode) -> None:
    answer = run("import sys; print('' in sys.path)", envs={"PYTHONSAFEPATH": "1"})

    assert answer["result"] == "False\n"
    shown = run("import sys; print(sys.path[0])", envs={"PYTHONSAFEPATH": "1"})
    assert "coderun" not in shown["result"]


def test_code_of_any_size_runs(run: RunCode) -> None:
    code = f"x = '{'y' * 3_000_000}'\nprint(len(x))"

    assert run(code) == {"exitCode": 0, "result": "3000000\n"}


def test_nothing_of_the_code_stays_on_disk(sandbox: Agent, run: RunCode) -> None:
    run("import sys; print(1)")

    assert list((sandbox.state_dir / "spool").iterdir()) == []


def test_matplotlib_is_not_looked_for_by_code_that_does_not_use_it(
    run: RunCode,
) -> None:
    answer = run(
        "import sys\n"
        "ours = {'matplotlib', 'typing', 'json', 'base64', 'importlib.abc'}\n"
        "import subprocess\n"
        "plain = subprocess.run([sys.executable, '-c',"
        " 'import sys; print(*sys.modules)'], capture_output=True, text=True).stdout\n"
        "print(sorted((ours & set(sys.modules)) - set(plain.split())"
        " - {'typing'}))"
    )

    assert answer["result"] == "[]\n"
