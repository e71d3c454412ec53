"""Real language servers: the flow of the official clients, and what changes on the disk."""

import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.clients.environments import NODE
from tests.lsp.conftest import Desk, failure
from tests.lsp.real_servers import SERVERS, Real
from tests.support.agent import StartAgent
from tests.support.processes import alive, tree

pytestmark = [pytest.mark.clients, pytest.mark.timeout(280)]

BASE = Path(sys.executable).resolve().parent


@pytest.fixture(params=SERVERS, ids=lambda each: each.name)
def real(
    request: pytest.FixtureRequest, start_agent: StartAgent
) -> Iterator[tuple[Desk, Real]]:
    """Return a client of an agent that has one real server."""
    server: Real = request.param
    path = os.pathsep.join([str(server.directory()), str(NODE.parent), os.defpath])
    agent = start_agent(env={"PATH": path})
    (agent.work_dir / "proj").mkdir()
    yield Desk(agent, language=server.language), server
    agent.stop()


def test_the_official_flow_passes(  # noqa: PLR0915 - one flow
    real: tuple[Desk, Real],
) -> None:
    desk, server = real
    uri = desk.write(server.file, server.text)
    lines = server.text.splitlines()
    started = desk.post("start", 60)
    assert started.status == 200, started.body
    [status] = desk.agent.request("GET", "/lsp/status").json()["servers"]
    assert status["server"] == server.name
    assert desk.post("did-open", uri=uri).status == 200

    def get(route: str, **query: str) -> list[str]:
        pairs = {"languageId": server.language, "pathToProject": "proj", **query}
        text = "&".join(f"{name}={value}" for name, value in pairs.items())
        answer = desk.agent.request("GET", f"/lsp/{route}?{text}", limit_s=60)
        assert answer.status == 200, answer.body
        assert all(
            each["location"]["uri"] == (desk.root / server.file).as_uri()
            for each in answer.json()
        )
        return [each["name"] for each in answer.json()]

    assert "Greeter" in get("document-symbols", uri=uri)
    assert "Greeter" in get("workspacesymbols", query="Greeter")
    assert "Greeter" in get("workspace-symbols", query="Greeter")

    position = {"line": len(lines) - 1, "character": len(lines[-1])}
    asked = desk.post("completions", 60, uri=uri, position=position)
    assert asked.status == 200, asked.body
    assert any(each["label"].startswith("greet") for each in asked.json()["items"])

    # An edit that only the disk knows of.
    desk.write(server.file, server.text.replace("greet(", "welcome("))
    until = time.monotonic() + 60
    labels: list[str] = []
    while not any(each.startswith("welcome") for each in labels):
        assert time.monotonic() < until, labels
        again = desk.post("completions", 60, uri=uri, position=position)
        labels = [each["label"] for each in again.json()["items"]]

    running = tree(desk.agent.api_pid())
    assert running
    assert desk.post("did-close", uri=uri).status == 200
    assert desk.post("stop", 30).status == 200
    assert not [pid for pid in running if alive(pid)]
    assert failure(desk.complete(uri))[1] == "LSP_SERVER_NOT_INITIALIZED"


def wrong(desk: Desk, uri: str) -> bool:
    """Tell whether the server finds an error in a document."""
    answer = desk.post("diagnostics", 60, uri=uri)
    assert answer.status == 200, answer.body
    told = answer.json()
    assert told["isFresh"] is True
    return any(each["severity"] == 1 for each in told["items"])


def test_files_that_are_not_open_count_as_they_are_on_the_disk(  # noqa: PLR0915 - one flow
    real: tuple[Desk, Real],
) -> None:
    desk, server = real
    if server.language == "python":
        names = ("lib.py", "use.py", "third.py")
        good = "def helper(x: int) -> int:\n    return x\n"
        bad = "def other(): ...\n"
        text = "import lib\n\nlib.helper(1)\nlib."
    else:
        names = ("lib.ts", "use.ts", "third.ts")
        good = "export function helper(x: number): number { return x }\n"
        bad = "export function other() {}\n"
        text = "import * as lib from './lib'\n\nlib.helper(1)\nlib."
        desk.write("tsconfig.json", '{"include": ["*.ts"]}')
    lib, use, third = names
    desk.write(lib, good)
    uri = desk.write(use, text)
    assert desk.post("start", 60).status == 200

    def labels() -> set[str]:
        position = {"line": 3, "character": 4}
        answer = desk.post("completions", 60, uri=uri, position=position)
        assert answer.status == 200, answer.body
        return {each["label"].partition("(")[0] for each in answer.json()["items"]}

    assert "helper" in labels()
    desk.write(lib, bad)
    assert "other" in labels()
    assert "helper" not in labels()
    desk.write(lib, good)

    desk.write(use, text.removesuffix("lib."))
    if server.name != "pylsp":
        # It looks at one file at a time, and finds nothing wrong between two.
        assert not wrong(desk, uri)
        desk.write(lib, bad)
        assert wrong(desk, uri)
        desk.write(lib, good)
        assert not wrong(desk, uri)

    # Written after the server has looked at the project, and never opened.
    desk.write(third, "# another line\n" + text.removesuffix("lib."))
    at = {"line": 2, "character": 6}
    answer = desk.post("rename", 60, uri=uri, position=at, newName="assist", apply=True)
    assert answer.status == 200, answer.body
    assert answer.json()["applied"] is True
    for name in names:
        content = (desk.root / name).read_text()
        assert "helper" not in content, name
        assert "assist" in content, name
    assert desk.post("stop", 30).status == 200


@dataclass(frozen=True)
class Packages:
    """Where a project's packages are, and one of them."""

    root: Path
    home: Path
    files: dict[str, str]

    def prepare(self) -> None:
        """Make room for packages; for Python's that is a virtual environment."""
        self.home.mkdir(parents=True)
        if self.home.name == "site-packages":
            (self.root / ".venv/bin").mkdir()
            (self.root / ".venv/bin/python").symlink_to(sys.executable)
            (self.root / ".venv/pyvenv.cfg").write_text(f"home = {BASE}\n")

    def install(self) -> None:
        """Write the package as pip and npm do."""
        (self.home / "thing").mkdir()
        for file, content in self.files.items():
            (self.home / "thing" / file).write_text(content)
        # What comes last.
        (self.home / "thing-1.dist-info").mkdir()


def packages_of(desk: Desk, language: str) -> Packages:
    if language == "python":
        home = desk.root / ".venv/lib/python3.11/site-packages"
        files = {"__init__.py": "def works(): ...\n", "py.typed": ""}
    else:
        home = desk.root / "node_modules"
        files = {
            "index.d.ts": "export declare function works(): void\n",
            "package.json": '{"name": "thing", "types": "index.d.ts"}',
        }
    return Packages(desk.root, home, files)


@pytest.mark.parametrize("whole", [False, True], ids=["package", "environment"])
def test_a_package_that_is_installed_meanwhile_is_found(
    real: tuple[Desk, Real], *, whole: bool
) -> None:
    desk, server = real
    packages = packages_of(desk, server.language)
    star = "* as thing from 'thing'" if server.language == "typescript" else "thing"
    uri = desk.write(server.file, f"import {star}\nthing.")
    if not whole:
        packages.prepare()
    assert desk.post("start", 60).status == 200

    def works() -> bool:
        position = {"line": 1, "character": 6}
        answer = desk.post("completions", 60, uri=uri, position=position)
        assert answer.status == 200, answer.body
        return any("works" in each["label"] for each in answer.json()["items"])

    assert not works()
    if whole:
        packages.prepare()
    packages.install()

    # TypeScript before 7 looks by itself, a moment later.
    until = time.monotonic() + (20 if server.name.endswith("-server") else 0)
    while not works():
        assert time.monotonic() < until
    assert desk.post("stop", 30).status == 200


@pytest.mark.long
@pytest.mark.timeout(600)
def test_starts_and_stops_leave_neither_processes_nor_descriptors(
    real: tuple[Desk, Real],
) -> None:
    desk, server = real
    uri = desk.write(server.file, server.text)
    api = desk.agent.api_pid()
    descriptors = Path(f"/proc/{api}/fd")
    times = 100 if server.name in {"ty", "typescript-native"} else 20
    open_before = 0

    for number in range(times):
        assert desk.post("start", 60).status == 200
        query = f"languageId={server.language}&pathToProject=proj&uri={uri}"
        told = desk.agent.request("GET", f"/lsp/document-symbols?{query}", limit_s=60)
        assert told.status == 200, told.body
        running = tree(api)
        assert running
        assert desk.post("stop", 30).status == 200
        assert not [pid for pid in running if alive(pid)]
        if number == 0:
            open_before = len(list(descriptors.iterdir()))

    # The connection of the last question may be about to close.
    assert len(list(descriptors.iterdir())) <= open_before + 2
