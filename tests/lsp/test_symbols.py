"""Workspace symbols of Python projects whose server has none."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.lsp.programs.python_symbols import Index, symbols_of
from agent.lsp.symbol_index import PROGRAM
from tests.lsp.conftest import Desk
from tests.support.processes import alive, children, wait_gone

CODE = """
import os
LIMIT = 3
value: int = 4
first, second = 1, 2
if LIMIT:
    def conditional(): ...
try:
    import json
except ImportError:
    json = None

class Greeter:
    name = "x"
    async def greet(self):
        hidden = 1
    class Inner:
        def deep(self): ...

def hello():
    def inside(): ...
"""
NAMES = ["LIMIT", "value", "first", "second", "conditional", "json", "Greeter", "name"]
NAMES += ["greet", "Inner", "deep", "hello"]


def names(content: str) -> list[str]:
    return [each[0] for each in symbols_of(content.encode())]


def symbols(desk: Desk, query: str) -> list[tuple[str, str]]:
    """Return names and files that a question finds."""
    path = f"/lsp/workspacesymbols?query={query}&languageId=python&pathToProject=proj"
    answer = desk.agent.request("GET", path)
    assert answer.status == 200, answer.body
    return [
        (each["name"], each["location"]["uri"].rpartition("/")[2])
        for each in answer.json()
    ]


def test_names_of_modules_and_classes_are_found() -> None:
    assert names(CODE) == NAMES


def test_what_does_not_parse_is_scanned() -> None:
    found = names(CODE + "\nhello.")

    assert {"LIMIT", "value", "Greeter", "greet", "Inner", "hello"} <= set(found)


@pytest.mark.parametrize("content", [b"\0", b"\xff\xfe", b"(" * 5000, b"", b"x = \\"])
def test_no_content_stops_it(content: bytes) -> None:
    symbols_of(content + b"\n\nclass A:\n    pass\n")


def test_ranges_count_utf16_code_units() -> None:
    [found] = symbols_of('x = "\N{GRINNING FACE}é"'.encode())

    assert found[2:6] == (0, 0, 0, 9)


def test_scanned_lines_and_containers_are_right() -> None:
    text = "class A:\n    def b(self):\n        pass\n\ndef c():\n    (\n"

    found = {each[0]: (each[2], each[6]) for each in symbols_of(text.encode())}

    assert found == {"A": (0, ""), "b": (1, "A"), "c": (4, "")}


def test_exact_names_come_first_then_prefixes_then_the_rest(tmp_path: Path) -> None:
    text = "def get_user(): ...\ndef user(): ...\ndef User(): ...\n"
    text += "def user_name(): ...\ndef under_score_row(): ...\ndef other(): ...\n"
    (tmp_path / "a.py").write_text(text)
    index = Index(str(tmp_path))
    index.refresh()

    found = [each["name"] for each in index.find("user")]

    assert found == ["user", "User", "user_name", "get_user", "under_score_row"]


def test_environments_caches_and_hidden_directories_are_left_out(
    tmp_path: Path,
) -> None:
    for place in ("node_modules", ".git", "__pycache__", "own-venv", "src"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "a.py").write_text(f"def in_{len(place)}(): ...")
    (tmp_path / "own-venv" / "pyvenv.cfg").touch()
    os.mkfifo(tmp_path / "fifo.py")
    index = Index(str(tmp_path))

    assert index.refresh()
    assert [each["name"] for each in index.find("in")] == ["in_3"]


def test_many_files_are_parsed_by_several_processes_and_none_is_lost(
    tmp_path: Path,
) -> None:
    for number in range(900):
        (tmp_path / f"m{number}.py").write_text(f"def function_{number}(): ...")
    # Forks, so not within the test's own process with its threads.
    code = (
        f"import sys; sys.path[:0] = [{str(PROGRAM.parent)!r}]\n"
        "from python_symbols import Index\n"
        f"index = Index({str(tmp_path)!r}); index.refresh()\n"
        "print(sorted(each['name'] for each in index.find('function')) =="
        " sorted(f'function_{n}' for n in range(900)))"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, timeout=60, check=True
    )

    assert done.stdout == b"True\n"


def test_a_server_without_symbols_is_helped_out_and_edits_are_seen(
    desk: Desk,
) -> None:
    desk.write("a.py", "class Greeter: ...\ngreeter.")
    desk.start()

    assert symbols(desk, "greet") == [("Greeter", "a.py")]
    desk.write("b.py", "def greet_all(): ...")
    assert symbols(desk, "greet") == [("Greeter", "a.py"), ("greet_all", "b.py")]
    (desk.root / "a.py").unlink()
    assert symbols(desk, "greet") == [("greet_all", "b.py")]
    assert symbols(desk, "zzz") == []


def test_a_server_with_symbols_is_believed(desk: Desk) -> None:
    place = {"start": {"line": 0, "character": 0}, "end": {"line": 0, "character": 1}}
    own = [{"name": "own", "kind": 5, "location": {"uri": "file:///x", "range": place}}]
    desk.behave(
        capabilities={"workspaceSymbolProvider": True},
        answers={"workspace/symbol": own},
    )
    desk.write("a.py", "class owned: ...")
    desk.start()

    assert symbols(desk, "own") == [("own", "x")]


def test_the_index_ends_with_its_server_and_comes_back_when_killed(desk: Desk) -> None:
    desk.write("a.py", "class Greeter: ...")
    desk.start()
    symbols(desk, "G")
    api = desk.agent.api_pid()
    [index] = [each for each in children(api) if each not in desk.pids()]

    os.kill(index, signal.SIGKILL)
    assert wait_gone(index)
    until = time.monotonic() + 5
    while time.monotonic() < until:
        path = "/lsp/workspacesymbols?query=G&languageId=python&pathToProject=proj"
        if desk.agent.request("GET", path).status == 200:
            break
    assert symbols(desk, "G") == [("Greeter", "a.py")]
    running = [each for each in children(api) if alive(each)]
    assert len(running) == 2
    assert desk.post("stop").status == 200
    assert not [each for each in running if alive(each)]


def test_answers_are_plain_json(tmp_path: Path) -> None:
    (tmp_path / "a b.py").write_text("class Ä: ...")
    index = Index(str(tmp_path))
    index.refresh()

    [found] = index.find("Ä")

    assert json.loads(json.dumps(found)) == found
    assert found["location"]["uri"].endswith("/a%20b.py")


def test_what_changed_is_all_that_is_looked_at_when_it_is_known(
    tmp_path: Path,
) -> None:
    for name in ("a.py", "b.py", "c.py"):
        (tmp_path / name).write_text(f"def old_{name[0]}(): ...\ndef same(): ...")
    index = Index(str(tmp_path))
    assert index.refresh()

    (tmp_path / "a.py").write_text("def new_a(): ...")
    (tmp_path / "b.py").write_text("def new_b(): ...")
    (tmp_path / "c.py").unlink()
    (tmp_path / "d.py").write_text("def new_d(): ...")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden/e.py").write_text("def new_e(): ...")
    changed = ["a.py", "c.py", "d.py", ".hidden/e.py", "notes.md", "../out.py"]
    assert index.refresh([str(tmp_path / each) for each in changed])

    found = {each["name"] for each in index.find("w_")}
    assert found == {"new_a", "new_d"}
    assert [each["name"] for each in index.find("old")] == ["old_b"]
    assert len(index.find("same")) == 1


def test_symbols_of_a_project_behind_a_link_are_where_the_caller_says(
    desk: Desk,
) -> None:
    desk.write("a.py", "class Greeter: ...")
    (desk.agent.work_dir / "link").symlink_to("proj")
    desk.project = "link"
    desk.start()
    path = "/lsp/workspacesymbols?query=G&languageId=python&pathToProject=link"

    [found] = desk.agent.request("GET", path).json()

    link = desk.agent.work_dir / "link/a.py"
    assert found["location"]["uri"] == f"file://{link}"
    desk.write("b.py", "class Guest: ...")
    assert len(desk.agent.request("GET", path).json()) == 2
