"""What Python code does and is told in a context (contract 33 §3, §4, §7)."""

import json
import re
import time

import pytest

from tests.interpreter.conftest import Desk, running
from tests.support.agent import Agent
from tests.support.serving import settled

LOOP_THAT_IGNORES_INTERRUPTS = """
z = 1
import time
while True:
    try:
        time.sleep(0.01)
    except KeyboardInterrupt:
        pass
"""


async def test_variables_outlast_a_run(desk: Desk) -> None:
    first = await desk.run("x=41")
    second = await desk.run("print(x+1)")

    assert first.ended_well
    assert not first.stdout
    assert second.ended_well
    assert second.stdout == "42\n"


async def test_three_hundred_prints_are_never_empty(desk: Desk) -> None:
    for _ in range(300):
        ran = await desk.run("print(1)")
        assert ran.stdout == "1\n", ran
        assert ran.ended_well


async def test_an_exception_is_told_by_name_value_and_traceback(desk: Desk) -> None:
    ran = await desk.run("raise ValueError('boom')")

    assert ran.error is not None
    assert ran.error["name"] == "ValueError"
    assert ran.error["value"] == "boom"
    assert ran.error["traceback"] == (
        "Traceback (most recent call last):\n"
        '  File "<stdin>", line 1\n'
        "    raise ValueError('boom')\n"
        "ValueError: boom\n"
    )
    assert [each["type"] for each in ran.messages] == ["error", "control"]
    assert (ran.code, ran.controls) == (1000, ["completed"])


async def test_a_traceback_shows_own_code_and_own_modules_only(
    desk: Desk, agent: Agent
) -> None:
    (agent.work_dir / "mine.py").write_text("import json\ndef f(x): json.loads(x)\n")
    await desk.run("import mine\ndef g():\n    mine.f('{')  # here\n")

    ran = await desk.run("\ng()")

    assert ran.error is not None
    assert ran.error["traceback"].splitlines()[:7] == [
        "Traceback (most recent call last):",
        '  File "<stdin>", line 2',
        "    g()",
        '  File "<stdin>", line 3, in g',
        "    mine.f('{')  # here",
        f'  File "{agent.work_dir}/mine.py", line 2, in f',
        "    def f(x): json.loads(x)",
    ]
    assert "json/decoder" not in ran.error["traceback"]


async def test_what_led_to_an_exception_is_told_too(desk: Desk) -> None:
    ran = await desk.run(
        "try:\n    1/0\nexcept Exception as e:\n    raise KeyError(1) from e"
    )

    assert ran.error is not None
    assert re.search(
        r"ZeroDivisionError: .*direct cause.*KeyError: 1\n$",
        ran.error["traceback"],
        re.DOTALL,
    )


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("print(1", "SyntaxError"),
        ("input()", "EOFError"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("def f(): f()\nf()", "RecursionError"),
        ("class E(Exception):\n  def __str__(self): raise E\nraise E", "E"),
        ("raise ValueError('\\ud800' + 'x' * 9**7)", "ValueError"),
        ("a\0b", "SyntaxError"),
        ("import os; os.environ[''] = '1'", "OSError"),
    ],
)
async def test_every_exception_is_told_and_the_context_lives(
    desk: Desk, code: str, name: str
) -> None:
    await desk.run("kept = 7")

    ran = await desk.run(code, timeout=5)

    assert ran.error is not None
    assert ran.error["name"] == name
    assert name in ran.error["traceback"]
    assert len(json.dumps(ran.error)) <= 64 * 1024
    assert (ran.code, ran.controls) == (1000, ["completed"])
    assert (await desk.run("print(kept)")).stdout == "7\n"


async def test_a_syntax_error_has_no_frames(desk: Desk) -> None:
    ran = await desk.run("print(1")

    assert ran.error is not None
    assert ran.error["traceback"] == f"SyntaxError: {ran.error['value']}\n"


async def test_both_streams_are_told_apart(desk: Desk) -> None:
    ran = await desk.run("import sys;sys.stderr.write('e');print('o')")

    assert (ran.stdout, ran.stderr) == ("o\n", "e")


async def test_output_of_children_and_of_descriptors_is_told(desk: Desk) -> None:
    ran = await desk.run(
        "import os, subprocess\n"
        "print('a')\n"
        "os.system('echo b')\n"
        "subprocess.run(['sh', '-c', 'echo c; echo d >&2'])\n"
        "os.write(1, b'e\\n')\n"
    )

    assert ran.stdout == "a\nb\nc\ne\n"
    assert ran.stderr == "d\n"


async def test_output_comes_while_the_code_runs(desk: Desk) -> None:
    code = "import time\nprint('a part', end='')\ntime.sleep(60)"
    async with desk.start(code) as talk:
        await talk.until("a part")


async def test_exit_ends_a_run_and_not_the_context(desk: Desk) -> None:
    for code in ("y = 5\nexit()", "quit()", "import sys\nsys.exit(3)"):
        assert (await desk.run(code)).ended_well

    words = await desk.run("sys.exit('sorry')")
    after = await desk.run("print(y)\ninput()")

    assert words.stderr == "sorry\n"
    assert after.stdout == "5\n"
    assert after.error is not None
    assert after.error["name"] == "EOFError"


async def test_variables_of_a_run_are_taken_back(desk: Desk) -> None:
    show = "import os\nprint([os.environ.get(n) for n in ('A', 'B')])"
    await desk.run("import os\nos.environ['B'] = 'own'")

    with_them = await desk.run(show, envs={"A": "a b;$c", "B": None})
    failing = await desk.run(show + "\n1/0", envs={"A": "2"})
    without = await desk.run(show)

    assert with_them.stdout == "['a b;$c', None]\n"
    assert failing.stdout == "['2', 'own']\n"
    assert without.stdout == "[None, 'own']\n"


async def test_await_works_outside_of_functions_and_tasks_go_on(desk: Desk) -> None:
    await desk.run(
        "import asyncio\n"
        "seen = []\n"
        "async def count():\n"
        "    for i in range(3):\n"
        "        seen.append(i)\n"
        "        await asyncio.sleep(0)\n"
        "task = asyncio.ensure_future(count())\n"
        "await asyncio.sleep(0)\n"
    )

    ran = await desk.run("await task\nprint(seen)")
    plain = await desk.run("asyncio.run(count())\nprint(len(seen))")

    assert ran.stdout == "[0, 1, 2]\n"
    assert plain.stdout == "6\n"


async def test_a_last_value_is_not_told_unless_asked_for(desk: Desk) -> None:
    ran = await desk.run("1+1")

    assert [each["type"] for each in ran.messages] == ["control"]


async def test_long_output_is_whole_and_its_messages_are_short(desk: Desk) -> None:
    ran = await desk.run("print('z'*5000000)")

    assert len(ran.stdout) == 5_000_001
    assert set(ran.stdout) == {"z", "\n"}


async def test_lines_of_a_mebibyte_do_no_harm(desk: Desk) -> None:
    ran = await desk.run(
        "import sys\n"
        "for _ in range(3):\n"
        "    print('\\x01' * 2**20)\n"
        "    sys.stderr.write('é' * 2**19 + '\\n')\n"
    )

    assert ran.stdout == ("\x01" * 2**20 + "\n") * 3
    assert ran.stderr == ("é" * 2**19 + "\n") * 3
    assert ran.ended_well


async def test_a_character_may_be_cut_anywhere(desk: Desk) -> None:
    text = "aé€😀\ud7ff"
    ran = await desk.run(
        "import os, time\n"
        f"text = {text!r}.encode()\n"
        "for cut in range(len(text) + 1):\n"
        "    for part in (text[:cut], text[cut:]):\n"
        "        os.write(1, part)\n"
        "        time.sleep(0.005)\n"
    )

    assert ran.stdout == text * (len(text.encode()) + 1)


async def test_what_is_not_utf8_is_replaced(desk: Desk) -> None:
    ran = await desk.run(
        "import os\nos.write(1, b'a\\xffb\\xe2\\x82')\nos.write(2, b'\\xf0\\x9f')"
    )
    surrogate = await desk.run("print('\\ud800')")

    assert ran.stdout == "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}"
    assert ran.stderr == "\N{REPLACEMENT CHARACTER}"
    assert surrogate.stdout == "?\n"


async def test_long_code_is_run_whole(desk: Desk) -> None:
    code = "x = '''" + "é" * 2_000_000 + "'''\nprint(len(x))"

    assert (await desk.run(code)).stdout == "2000000\n"


async def test_a_time_limit_interrupts_and_keeps_the_namespace(desk: Desk) -> None:
    await desk.run("import time")
    started = time.monotonic()

    ran = await desk.run("y=1\ntime.sleep(30)", timeout=0.3)

    assert time.monotonic() - started < 2
    assert (ran.code, ran.reason, ran.messages) == (4008, "", [])
    assert (await desk.run("print(y)")).stdout == "1\n"


async def test_code_that_ignores_its_limit_is_killed_with_all_of_it(
    desk: Desk,
) -> None:
    child = (
        "import subprocess\nprint(subprocess.Popen(['setsid', 'sleep', '60']).pid)\n"
    )
    await desk.run("z = 0")
    started = time.monotonic()

    ran = await desk.run(child + LOOP_THAT_IGNORES_INTERRUPTS, timeout=0.2)

    assert 2 < time.monotonic() - started < 5
    assert (ran.code, ran.controls, ran.error) == (4008, [], None)
    assert not running(int(ran.stdout))
    after = await desk.run("print('z' in globals())")
    assert after.stdout == "False\n"


async def test_code_that_blocks_on_its_output_is_stopped_too(desk: Desk) -> None:
    flood = "import os\nwhile True: os.write(1, bytes(65536))"
    async with desk.start(flood, timeout=0.5) as talk:
        await talk.step()
        second = await desk.run("print('free')")
        ran = await talk.end()

    assert second.stdout == "free\n"
    assert ran.code == 4008


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("import os\nos._exit(3)", "exit code 3"),
        ("import ctypes\nctypes.string_at(0)", "killed by signal 11 (SIGSEGV)"),
        ("import os, signal\nos.kill(os.getpid(), 9)", "killed by signal 9 (SIGKILL)"),
        ("import os\nos.closerange(3, 4096)", "exit code 71"),
        ("import os\nos.execv('/bin/true', ['true'])", "exit code 0"),
    ],
)
async def test_the_end_of_a_worker_is_told_and_the_next_run_works(
    desk: Desk, code: str, why: str
) -> None:
    await desk.run("kept = 1")
    started = time.monotonic()

    ran = await desk.run(f"print('before')\n{code}")

    assert time.monotonic() - started < 2
    assert ran.stdout == "before\n"
    assert ran.error is not None
    assert ran.error["name"] == "WorkerProcessError"
    assert why in ran.error["value"]
    assert not ran.controls
    assert (ran.code, ran.reason) == (1011, f"worker process ended: {why}")
    assert (await desk.run("print('kept' in globals())")).stdout == "False\n"


async def test_a_worker_that_dies_idle_is_replaced(desk: Desk) -> None:
    pid = int((await desk.run("import os\nprint(os.getpid())")).stdout)

    await desk.run(
        "import threading, time\nthreading.Timer(0.05, lambda: os._exit(1)).start()"
    )
    await settled(lambda: not running(pid))

    assert (await desk.run("print('again')")).stdout == "again\n"


async def test_forked_children_do_not_take_part_in_the_conversation(
    desk: Desk,
) -> None:
    ran = await desk.run(
        "import os\n"
        "child = os.fork()\n"
        "if child: status = os.waitpid(child, 0)[1]\n"
        "else: print('child')\n"
    )
    failing = await desk.run(
        "child = os.fork()\n"
        "if child: print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
        "else: 1/0\n"
    )
    leaving = await desk.run(
        "child = os.fork()\n"
        "if child: print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
        "else: raise SystemExit(7)\n"
    )

    assert ran.ended_well
    assert ran.stdout == "child\n"
    assert failing.stdout == "1\n"
    assert failing.stderr.endswith("ZeroDivisionError: division by zero\n")
    assert "python_context" not in failing.stderr
    assert leaving.stdout == "7\n"


async def test_pools_of_processes_work_and_see_what_is_defined(desk: Desk) -> None:
    ran = await desk.run(
        "import multiprocessing\n"
        "def double(x): return 2 * x\n"
        "with multiprocessing.get_context('fork').Pool(2) as pool:\n"
        "    print(pool.map(double, [1, 2, 3]))\n"
    )

    assert ran.stdout == "[2, 4, 6]\n"


@pytest.mark.parametrize(
    "code",
    [
        "import os\nos.close(1); os.close(2); os.close(0)",
        "import sys\nsys.stdout.close(); sys.stderr.close(); sys.stdin.close()",
        "import sys\ndel sys.stdout, sys.stderr, sys.stdin",
        "import os\nfd = os.open('/dev/null', os.O_RDWR)\nfor i in (0, 1, 2): os.dup2(fd, i)",
        "import os\nos.set_blocking(1, False); os.set_blocking(2, False)",
        "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)",
        "import sys\nsys.modules.clear()",
        "import builtins\nfor n in dir(builtins): delattr(builtins, n)",
        "import os\nos.environ.clear(); os.chdir('/')",
        "import json\njson.dumps = json.loads = None",
    ],
)
async def test_code_cannot_break_its_context(desk: Desk, code: str) -> None:
    await desk.run(code)

    ran = await desk.run("print('é' * 300000)")
    stopped = await desk.run("while True: pass", timeout=0.3)

    if ran.code == 1011:
        # It broke the interpreter itself; that is told, and helped.
        ran = await desk.run("print('é' * 300000)")
    assert ran.stdout == "é" * 300000 + "\n", ran.error
    assert stopped.code == 4008


async def test_output_of_threads_between_runs_is_for_nobody(
    desk: Desk, agent: Agent
) -> None:
    await desk.run(
        "import threading\n"
        "go = threading.Event()\n"
        "def later():\n"
        "    go.wait()\n"
        "    print('x' * 3_000_000)\n"
        "    open('done', 'w').close()\n"
        "threading.Thread(target=later).start()\n"
    )

    await desk.run("threading.Timer(0.1, go.set).start()")
    await settled((agent.work_dir / "done").exists)
    ran = await desk.run("print('done')")

    assert ran.stdout.endswith("done\n")
    assert len(ran.stdout) < 1_500_000


async def test_a_background_child_does_not_hold_up_a_run(desk: Desk) -> None:
    ran = await desk.run(
        "import subprocess\nchild = subprocess.Popen(['sleep', '60'])\nprint(child.pid)"
    )

    assert ran.ended_well
    assert running(int(ran.stdout))


async def test_code_finds_modules_where_it_runs_and_not_beside_the_worker(
    desk: Desk, agent: Agent
) -> None:
    (agent.work_dir / "here.py").write_text("word = 'found'\n")

    ran = await desk.run("import here\nprint(here.word)")
    other = await desk.run("import python_worker")

    assert ran.stdout == "found\n"
    assert other.error is not None
    assert other.error["name"] == "ModuleNotFoundError"


async def test_planted_files_are_not_run_in_the_place_of_the_worker(
    desk: Desk, agent: Agent
) -> None:
    for name in ("json", "linecache", "traceback", "python_worker", "rich"):
        (agent.work_dir / f"{name}.py").write_text("raise SystemExit('planted')\n")

    ran = await desk.run("print(open('/proc/self/cmdline').read().split('\\0')[1])")
    rich = await desk.run("1", rich=True)

    assert ran.stdout.endswith("/agent/interpreter/programs/python_worker.py\n")
    assert rich.rich[0]["text"] == "1"
