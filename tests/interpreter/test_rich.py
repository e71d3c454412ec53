"""Rich results: values, tables, figures, and what is too large for a message."""

import base64
import json
import os
import stat
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.interpreter.conftest import Desk, asking
from tests.support.agent import Agent, StartAgent

OURS = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
"""With the Python that has matplotlib and pandas first."""

CHART = "application/vnd.toolbox.chart+json"
HTML = "text/html"
JSON = "application/json"
PNG = "image/png"
MIB = 1024 * 1024


@pytest.fixture
def agent(start_agent: StartAgent, tmp_path: Path) -> Agent:
    """Return a running agent, whose Python has libraries."""
    (tmp_path / "tmp").mkdir()
    return start_agent(
        env={
            "PATH": OURS,
            "TMPDIR": str(tmp_path / "tmp"),
            "MPLCONFIGDIR": str(tmp_path / "tmp"),
        }
    )


@pytest.fixture
async def desk(agent: Agent) -> AsyncIterator[Desk]:
    """Return a client of that agent."""
    async with asking(agent) as desk:
        yield desk


async def told(desk: Desk, code: str) -> list[dict[str, Any]]:
    """Return the rich messages of a run that ends well."""
    ran = await desk.run(code, rich=True)
    assert ran.ended_well, ran.error
    return ran.rich


def kinds(messages: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(each["type"], each["text"]) for each in messages]


async def test_a_last_value_is_the_result_and_underscore(desk: Desk) -> None:
    assert kinds(await told(desk, "x = 2\nx + 1")) == [("result", "3")]
    assert kinds(await told(desk, "_ * 2")) == [("result", "6")]
    assert await told(desk, "None") == []
    assert await told(desk, "x = 5") == []
    assert await told(desk, "x;") == []
    assert kinds(await told(desk, "import asyncio\nawait asyncio.sleep(0, 4)")) == [
        ("result", "4")
    ]


async def test_display_keeps_its_place_among_the_output(desk: Desk) -> None:
    ran = await desk.run(
        "import os\n"
        "for i in range(50):\n"
        "    print('before', i)\n"
        "    os.system('echo by a child')\n"
        "    display(i)\n"
        "print('end')",
        rich=True,
    )

    seen = "".join(
        f"<{each['text']}>" if each["type"] == "display" else each["text"]
        for each in ran.messages[:-1]
    )
    assert seen == (
        "".join(f"before {i}\nby a child\n<{i}>" for i in range(50)) + "end\n"
    )


async def test_values_tell_of_themselves_in_their_own_forms(desk: Desk) -> None:
    messages = await told(
        desk,
        "class V:\n"
        "    def __repr__(self): return 'V'\n"
        "    def _repr_html_(self): return '<b>é\\ud800</b>'\n"
        "    def _repr_png_(self): return b'\\x89PNG'\n"
        "    def _repr_json_(self): return {'a': [1]}\n"
        "    def _repr_latex_(self): raise ValueError\n"
        "    def _repr_mimebundle_(self, **_): return {'x/y': 1, 'x/nan': float('nan')}\n"
        "display(V(), V)\n",
    )

    assert messages[0]["data"] == {
        HTML: "<b>é?</b>",
        PNG: base64.b64encode(b"\x89PNG").decode(),
        JSON: {"a": [1]},
        "x/y": 1,
    }
    assert messages[1]["data"] == {}


async def test_tables_are_told_as_html_and_json(desk: Desk) -> None:
    frame, column = await told(
        desk,
        "import pandas as pd\n"
        "t = pd.DataFrame({'a': [1, None], 'b': ['x', 'é']})\n"
        "display(t)\n"
        "t['a']",
    )

    assert frame["data"][JSON] == {
        "columns": ["a", "b"],
        "index": [0, 1],
        "data": [[1.0, "x"], [None, "é"]],
    }
    assert "<table" in frame["data"][HTML]
    assert column["data"][JSON]["data"] == [1.0, None]
    assert "<table" in column["data"][HTML]


@pytest.mark.timeout(30)
async def test_figures_are_told_as_picture_and_chart(desk: Desk) -> None:
    shown, left = await told(
        desk,
        "import matplotlib.pyplot as plt\n"
        "plt.bar(['a', 'b'], [1, 2.5])\n"
        "plt.title('T')\n"
        "plt.show()\n"
        "_ = plt.boxplot([[1, 2, 3]])\n",
    )
    again = await told(desk, "fig, ax = plt.subplots()\nax.plot([1, 2])\nfig")
    none = await told(desk, "1;")

    assert shown["data"][CHART]["type"] == "bar"
    assert shown["data"][CHART]["title"] == "T"
    assert shown["data"][CHART]["elements"][1] == {"label": "b", "value": "2.5"}
    for each in (shown, left):
        assert base64.b64decode(each["data"][PNG])[:4] == b"\x89PNG"
        assert "png" not in each["data"][CHART]
    assert left["data"][CHART]["type"] == "box_and_whisker"
    # Told once, as the result, though it is open too.
    assert [each["type"] for each in again] == ["result"]
    assert again[0]["data"][CHART]["type"] == "line"
    assert none == []


async def test_what_is_too_large_is_a_file_of_this_user(desk: Desk) -> None:
    (message,) = await told(
        desk,
        "class V:\n"
        "    def __repr__(self): return 'r' * 100_000\n"
        "    def _repr_html_(self): return 'h' * 2_000_000\n"
        "    def _repr_png_(self): return b'p' * 900_000\n"
        "    def _repr_json_(self): return ['j' * 100_000]\n"
        "V()",
    )

    files = {name: Path(path) for name, path in message["files"].items()}
    assert len(json.dumps(message)) <= MIB
    assert message["data"] == {JSON: ["j" * 100_000]}
    assert {name: path.stat().st_size for name, path in files.items()} == {
        "text/plain": 100_000,
        HTML: 2_000_000,
        PNG: 900_000,
    }
    assert files[PNG].read_bytes() == b"p" * 900_000
    assert files[PNG].suffix == ".png"
    assert {stat.S_IMODE(path.stat().st_mode) for path in files.values()} == {0o600}


async def test_nothing_of_this_is_told_unless_asked_for(desk: Desk) -> None:
    await desk.run("1", rich=True)

    ran = await desk.run("display('shown')\n5")

    assert ran.stdout == "'shown'\n"
    assert ran.ended_well
    assert not ran.rich


async def test_display_in_threads_and_children_does_no_harm(desk: Desk) -> None:
    ran = await desk.run(
        "import os, threading\n"
        "threads = [threading.Thread(target=display, args=(i,)) for i in range(20)]\n"
        "for each in threads: each.start()\n"
        "for each in threads: each.join()\n"
        "child = os.fork()\n"
        "if child: os.waitpid(child, 0)\n"
        "else: display('child')\n",
        rich=True,
    )

    assert sorted(int(each["text"]) for each in ran.rich) == list(range(20))
    assert ran.stdout == "'child'\n"
    assert ran.ended_well


async def test_an_interrupt_amid_displays_keeps_the_context(desk: Desk) -> None:
    await desk.run("x = 3")

    ran = await desk.run("while True: display('x' * 10000)", rich=True, timeout=0.3)

    assert ran.code == 4008
    assert kinds(await told(desk, "x")) == [("result", "3")]
