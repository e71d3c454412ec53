"""Which shell is chosen."""

import os
import stat
from pathlib import Path

import pytest

from agent.process import shell


@pytest.fixture
def shells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Stand-ins at paths of our own for the preferred shells, all executable."""
    paths: dict[str, str] = {}
    for name in ("zsh", "bash", "fish"):
        path = tmp_path / name
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
        paths[name] = str(path)
    monkeypatch.setattr(shell, "PREFERRED", (paths["zsh"], paths["bash"]))
    return paths


def test_zsh_comes_before_bash_whatever_their_order(shells: dict[str, str]) -> None:
    listed = ["# comment", shells["bash"], shells["zsh"]]

    assert shell.choose_shell(listed, None) == shells["zsh"]


def test_a_commented_line_does_not_count(shells: dict[str, str]) -> None:
    assert (
        shell.choose_shell(["#" + shells["zsh"], shells["bash"]], None)
        == (shells["bash"])
    )


def test_a_listed_shell_that_cannot_be_executed_is_passed_over(
    shells: dict[str, str],
) -> None:
    Path(shells["zsh"]).chmod(stat.S_IRUSR)
    Path(shells["bash"]).unlink()
    if os.access(shells["zsh"], os.X_OK):  # never so, root included
        pytest.fail("a file without x is executable")

    assert shell.choose_shell([shells["zsh"], shells["bash"]], None) == "/bin/sh"


def test_the_environments_shell_is_next(shells: dict[str, str]) -> None:
    assert shell.choose_shell(["/bin/other"], shells["fish"]) == shells["fish"]
    assert shell.choose_shell(["/bin/other"], "") == "/bin/sh"
    assert shell.choose_shell(["/bin/other"], "/no/such/shell") == "/bin/sh"


def test_without_the_list_it_is_sh(shells: dict[str, str]) -> None:
    assert shell.choose_shell(None, shells["fish"]) == "/bin/sh"


def test_this_machine_has_one() -> None:
    chosen = shell.choose_shell(shell.listed_shells(), None)

    assert Path(chosen).is_file()
