"""The right server is found, by the contract's order, the places, and the user's word."""

import os
import subprocess
from pathlib import Path

import pytest

from agent.errors import AgentError, InvalidRequestError
from agent.lsp.candidates import FAMILIES, Family, family_of, installed
from agent.lsp.configuration import Configuration, read
from tests.lsp.conftest import Desk, failure, install
from tests.support.agent import PROGRAM, environment

PYTHON, TYPESCRIPT = FAMILIES[0], FAMILIES[1]


def program(path: Path) -> Path:
    """Make a file that can be run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def names(family: Family, project: Path, *directories: Path) -> list[str]:
    path = os.pathsep.join(map(str, directories))
    found = installed(family, str(project), path)
    return [each.candidate.name for each in found if each.candidate.name != "x"]


def package(root: Path, version: str) -> None:
    """Make a TypeScript package."""
    directory = root / "node_modules/typescript"
    program(directory / "bin/tsc")
    (directory / "package.json").write_text(f'{{"version": "{version}"}}')
    link = root / "node_modules/.bin/tsc"
    link.parent.mkdir(exist_ok=True)
    link.symlink_to("../typescript/bin/tsc")


def test_python_servers_come_in_the_contracts_order(tmp_path: Path) -> None:
    for name in ("pylsp", "ty", "basedpyright-langserver", "jedi-language-server"):
        program(tmp_path / "bin" / name)

    found = names(PYTHON, tmp_path / "proj", tmp_path / "bin")

    assert found == ["ty", "basedpyright", "jedi-language-server", "pylsp"]


@pytest.mark.parametrize("place", [".venv/bin", "venv/bin", "node_modules/.bin"])
def test_the_projects_own_server_wins_over_that_of_the_path(
    tmp_path: Path, place: str
) -> None:
    program(tmp_path / "bin/ty")
    own = program(tmp_path / "proj" / place / "ty")
    program(own.with_name("python"))

    [found] = installed(PYTHON, str(tmp_path / "proj"), str(tmp_path / "bin"))

    assert found.words == (str(own), "server")


def test_a_file_that_cannot_be_run_is_no_server(tmp_path: Path) -> None:
    program(tmp_path / "bin/ty").chmod(0o644)
    (tmp_path / "bin/pylsp").mkdir()

    assert names(PYTHON, tmp_path, tmp_path / "bin") == []


def test_typescript_is_its_own_server_from_seven_on(tmp_path: Path) -> None:
    package(tmp_path / "new", "7.0.2")
    package(tmp_path / "old", "5.9.3")
    native = program(
        tmp_path / "new/node_modules/@typescript/typescript-linux-x64/lib/tsc"
    )

    [found] = installed(TYPESCRIPT, str(tmp_path / "new"), "")

    assert found.words == (str(native), "--lsp", "--stdio")
    assert installed(TYPESCRIPT, str(tmp_path / "old"), "") == []


def test_its_older_server_needs_a_typescript_with_tsserver(tmp_path: Path) -> None:
    modules = tmp_path / "tools/node_modules"
    real = program(modules / "typescript-language-server/lib/cli.mjs")
    link = modules / ".bin/typescript-language-server"
    link.parent.mkdir()
    link.symlink_to(real)

    assert names(TYPESCRIPT, tmp_path, link.parent) == []
    program(modules / "typescript/lib/tsserver.js")
    assert names(TYPESCRIPT, tmp_path, link.parent) == ["typescript-language-server"]


@pytest.mark.parametrize(
    ("language", "family"),
    [
        ("javascript", "typescript"),
        ("typescriptreact", "typescript"),
        ("shellscript", "bash"),
        ("c", "cpp"),
        ("python", "python"),
    ],
)
def test_languages_belong_to_families(language: str, family: str) -> None:
    assert family_of(language, FAMILIES).name == family


@pytest.mark.parametrize(
    ("name", "asked", "language"),
    [
        ("a.tsx", "typescript", "typescriptreact"),
        ("a.mjs", "typescript", "javascript"),
        ("a.d.ts", "javascript", "typescript"),
        ("A.TS", "javascript", "typescript"),
        ("Makefile", "javascript", "javascript"),
    ],
)
def test_a_documents_language_is_its_names(
    name: str, asked: str, language: str
) -> None:
    assert TYPESCRIPT.language_of(f"/x/{name}", asked) == language


def configured(tmp_path: Path, text: str) -> Configuration:
    (tmp_path / "lsp.toml").write_text(text)
    return read(str(tmp_path / "lsp.toml"))


def test_the_users_order_comes_first(tmp_path: Path) -> None:
    found = configured(tmp_path, '[python]\norder = ["pylsp", "no-such"]')

    family = family_of("python", found.families)
    assert [each.name for each in family.candidates][:2] == ["pylsp", "ty"]


def test_the_users_command_is_the_only_one(tmp_path: Path) -> None:
    server = program(tmp_path / "own")
    found = configured(tmp_path, f'[python]\ncommand = ["{server}", "--x"]')

    family = family_of("python", found.families)
    [only] = installed(family, str(tmp_path), "")
    assert only.words == (str(server), "--x")


def test_a_language_can_be_added(tmp_path: Path) -> None:
    text = '[toml]\ncommand = ["taplo"]\nsuffixes = { ".toml" = "toml" }'
    found = configured(tmp_path, text)

    family = family_of("toml", found.families)
    assert family.language_of("/x/a.toml", "y") == "toml"
    with pytest.raises(InvalidRequestError):
        family_of("toml", FAMILIES)


@pytest.mark.parametrize(
    "text",
    ["[", "[limits]\nrequest = 0", "[limits]\nx = 1", "[python]\ncommand = 7", "x = 1"],
)
def test_a_file_that_makes_no_sense_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(AgentError, match=r"lsp\.toml"):
        configured(tmp_path, text)


def test_no_file_is_fine(tmp_path: Path) -> None:
    assert read(str(tmp_path / "none")) == Configuration()


def test_when_the_best_does_not_come_up_the_next_is_tried(desk: Desk) -> None:
    directory = desk.agent.work_dir.parent.parent / "bin"
    program(directory / "ty").write_text("#!/bin/sh\necho broken >&2; exit 9\n")
    uri = desk.write("a.py", "x")

    status, _, message = failure(desk.post("start"))
    assert status == 500
    assert "ty: the language server ended (exit code 9): broken" in message
    install(directory, "pylsp")
    desk.start()

    assert desk.labels(uri) == ["x"]


def test_a_server_that_ends_with_a_trace_is_told_by_what_it_is_of(desk: Desk) -> None:
    directory = desk.agent.work_dir.parent.parent / "bin"
    said = "loading\\nerror: no such toolchain\\n\\n  0: main\\n  1: <unknown>\\n"
    program(directory / "ty").write_text(f"#!/bin/sh\nprintf '{said}' >&2; exit 1\n")

    _, _, message = failure(desk.post("start"))

    assert message.endswith("ended (exit code 1): error: no such toolchain")


def test_the_list_says_what_is_here_and_how_to_get_the_rest(tmp_path: Path) -> None:
    program(tmp_path / "bin/basedpyright-langserver")
    program(tmp_path / "bin/pylsp")

    done = subprocess.run(
        [PROGRAM, "lsp", "list"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment(PATH=str(tmp_path / "bin"), HOME=str(tmp_path)),
        timeout=9,
        check=True,
    )

    lines = [line.split() for line in done.stdout.splitlines()]
    marks = {words[1]: words[0] for words in lines if words[0] in {"*", "+", "-"}}
    assert (marks["ty"], marks["basedpyright"], marks["pylsp"]) == ("-", "*", "+")
    assert "pip install ty" in done.stdout
    assert str(tmp_path / "bin/pylsp") in done.stdout
