"""What no source file may hold."""

import ast
import re
from pathlib import Path

from tests.architecture.sources import ROOT, sources, tracked

READS_ENVIRONMENT = (
    "settings.py",
    "command.py",
    "__main__.py",
    "keeper/",
    "interpreter/programs/",
    "git/environment.py",
)
"""Who may; a program of the interpreter sets the variables that code is run with, and
what GitPython would hand on of this process's has to be taken away by name."""
STARTS_CHILDREN = ("keeper/", "git/", "lsp/", "files/search/engine/")
"""Who may start and end processes; `command.py` turns itself into the keeper.

The search engine is a program of its own, a job of the keeper, which ends all of it.
"""

CHILD_CALLS = {
    "asyncio.create_subprocess_exec",
    "asyncio.create_subprocess_shell",
    "os.fork",
    "os.forkpty",
    "os.popen",
    "os.posix_spawn",
    "os.posix_spawnp",
    "os.system",
}

REGISTRY_HOST = re.compile(
    r"https?://[\w.-]*(?:pkg|packages?|registry|mirrors?|artifact\w*|proxy\.golang"
    r"|index|pypi|crates|maven)[\w-]*\.[\w.-]+",
    re.IGNORECASE,
)
"""The look of an address that packages come from; none is written down here."""

MACHINE_PATH = re.compile(
    rb"(?:^|[\s\"'=:(`])/(?:work|root|Users|home/(?!daytona)\w+)/\w"
)
"""A path of somebody's own machine."""

VENDORED = ROOT / "agent/web/viewer"
RECORDED = ROOT / "tests/contract/published.json"


def test_nothing_is_printed() -> None:
    assert not [each.name for each in sources() if "print" in each.names]


def test_options_come_from_settings() -> None:
    wrong = [
        source.name
        for source in sources()
        if source.names & {"os.environ", "os.environb", "os.getenv"}
        and not source.name.startswith(READS_ENVIRONMENT)
    ]

    assert not wrong


def test_children_are_started_by_the_keeper() -> None:
    wrong = [
        source.name
        for source in sources()
        if source.names & CHILD_CALLS and not source.name.startswith(STARTS_CHILDREN)
    ]

    assert not wrong


def test_no_call_goes_through_a_shell() -> None:
    wrong = [
        source.name
        for source in sources()
        for node in ast.walk(source.tree)
        if isinstance(node, ast.keyword)
        and node.arg == "shell"
        and ast.unparse(node) != "shell=False"
    ]

    assert not wrong


def test_a_package_is_a_docstring_and_nothing_else() -> None:
    packages = [each for each in sources() if each.name.endswith("__init__.py")]

    assert packages
    assert not [each.name for each in packages if len(each.tree.body) != 1]


def test_every_module_says_what_it_is_for() -> None:
    assert not [each.name for each in sources() if not ast.get_docstring(each.tree)]


def test_annotations_can_be_read_at_run_time() -> None:
    assert not [each.name for each in sources() if "__future__" in each.modules()]


def readable() -> list[Path]:
    """Return the tracked files that are ours to write."""
    return [
        path
        for path in tracked()
        if not path.is_relative_to(VENDORED) and path != RECORDED
    ]


def test_no_file_names_where_packages_come_from() -> None:
    found = {
        path.relative_to(ROOT).as_posix(): REGISTRY_HOST.findall(text)
        for path in readable()
        if REGISTRY_HOST.search(text := path.read_text(errors="replace"))
    }

    assert not found


def test_no_file_names_a_place_on_somebodys_machine() -> None:
    found = {
        path.relative_to(ROOT).as_posix(): MACHINE_PATH.findall(text)
        for path in readable()
        if MACHINE_PATH.search(text := path.read_bytes())
    }

    assert not found


def test_constraints_hold_names_and_versions_only() -> None:
    lines = (ROOT / ".ci/constraints.txt").read_text().splitlines()

    assert len(lines) > 20
    for line in lines:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!+]+|#.*", line), line
