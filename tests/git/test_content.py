"""Reset and restore, and git's configuration files."""

import os
from pathlib import Path

import pytest

from tests.git.conftest import Git
from tests.git.remote import commit, fill, git as run, repository
from tests.git.test_local import conflict, head
from tests.support.agent import starting


@pytest.fixture
def two(repo: Path) -> tuple[Path, str, str]:
    """Return a repository with two commits, and their hashes."""
    first = head(repo)
    second = commit(repo, "second", {"a.txt": "second\n", "src/b.txt": "second\n"})
    return repo, first, second


# -- reset ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "files"),
    [
        (
            "soft",
            {
                "a.txt": ("Modified", "Unmodified"),
                "src/b.txt": ("Modified", "Unmodified"),
            },
        ),
        (
            "mixed",
            {
                "a.txt": ("Unmodified", "Modified"),
                "src/b.txt": ("Unmodified", "Modified"),
            },
        ),
        (
            None,
            {
                "a.txt": ("Unmodified", "Modified"),
                "src/b.txt": ("Unmodified", "Modified"),
            },
        ),
        (
            "",
            {
                "a.txt": ("Unmodified", "Modified"),
                "src/b.txt": ("Unmodified", "Modified"),
            },
        ),
        ("hard", {}),
        ("merge", {}),
        ("keep", {}),
    ],
)
def test_reset_moves_head_and_what_its_mode_says(
    git: Git, two: tuple[Path, str, str], mode: str | None, files: dict[str, object]
) -> None:
    repo, first, _ = two
    fill(repo, {"untracked": "stays"})

    git.do("reset", path=repo, mode=mode, target="HEAD~1")

    assert head(repo) == first
    left = {
        name: words for name, words in git.files(repo).items() if name != "untracked"
    }
    assert left == files
    assert (repo / "untracked").read_text() == "stays"


def test_reset_without_target_is_to_head(git: Git, repo: Path) -> None:
    fill(repo, {"a.txt": "edited"})
    run("add", "a.txt", cwd=repo)

    git.do("reset", path=repo)
    assert git.files(repo) == {"a.txt": ("Unmodified", "Modified")}
    git.do("reset", path=repo, mode="hard")
    assert git.files(repo) == {}


def test_reset_before_the_first_commit_empties_the_index(
    git: Git, tmp_path: Path
) -> None:
    repo = repository(tmp_path / "repo")
    fill(repo, {"x": ""})
    git.do("add", path=repo, files=["x"])

    git.do("reset", path=repo)

    assert git.files(repo) == {"x": ("Untracked", "Untracked")}


def test_reset_of_single_files_leaves_head(
    git: Git, two: tuple[Path, str, str]
) -> None:
    repo, _, second = two

    git.do("reset", path=repo, target="HEAD~1", files=["a.txt"])
    assert git.files(repo) == {"a.txt": ("Modified", "Modified")}

    git.do("reset", path=repo, mode="hard", target="HEAD~1", files=["src"])
    assert (repo / "src/b.txt").read_text() == "two\n"
    assert git.files(repo)["src/b.txt"] == ("Modified", "Unmodified")
    assert (repo / "a.txt").read_text() == "second\n"
    assert head(repo) == second


def test_unknown_mode_target_and_files_are_refused(git: Git, repo: Path) -> None:
    assert git.fails("reset", path=repo, mode="wild") == (400, "BAD_REQUEST")
    assert git.fails("reset", path=repo, target="nope") == (404, "NOT_FOUND")
    assert git.fails("reset", path=repo, target="--hard") == (400, "BAD_REQUEST")
    for mode in ("soft", "merge", "keep"):
        body = {"path": repo, "mode": mode, "files": ["a.txt"]}
        assert git.fails("reset", **body) == (400, "BAD_REQUEST")
    hard = {"path": repo, "mode": "hard", "files": ["nope"]}
    assert git.fails("reset", **hard) == (404, "FILE_NOT_FOUND")


def test_merge_and_keep_save_local_changes(
    git: Git, two: tuple[Path, str, str]
) -> None:
    repo, _, second = two
    fill(repo, {"a.txt": "mine\n"})

    for mode in ("merge", "keep"):
        body = {"path": repo, "mode": mode, "target": "HEAD~1"}
        assert git.fails("reset", **body) == (409, "GIT_DIRTY_WORKTREE"), mode

    assert head(repo) == second
    assert (repo / "a.txt").read_text() == "mine\n"


# -- restore -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "index", "file"),
    [
        ({}, "staged\n", "staged\n"),
        ({"staged": True}, "one\n", "edited\n"),
        ({"worktree": True}, "staged\n", "staged\n"),
        ({"staged": True, "worktree": True}, "one\n", "one\n"),
        ({"staged": True, "worktree": False}, "one\n", "edited\n"),
        ({"staged": False, "worktree": True}, "staged\n", "staged\n"),
    ],
)
def test_restore_takes_back_what_is_asked(
    git: Git, repo: Path, flags: dict[str, bool], index: str, file: str
) -> None:
    fill(repo, {"a.txt": "staged\n"})
    run("add", "a.txt", cwd=repo)
    fill(repo, {"a.txt": "edited\n"})

    git.do("restore", path=repo, files=["a.txt"], **flags)

    assert run("show", ":a.txt", cwd=repo) == index.rstrip("\n")
    assert (repo / "a.txt").read_text() == file


@pytest.mark.parametrize(
    "fields",
    [
        {"files": ["a.txt"], "staged": False},
        {"files": ["a.txt"], "staged": False, "worktree": False},
        {"files": ["a.txt"], "worktree": False},
        {"files": []},
        {"files": [""]},
        {"files": ["a.txt"], "source": "--staged"},
    ],
)
def test_restore_of_nothing_is_refused(
    git: Git, repo: Path, fields: dict[str, object]
) -> None:
    assert git.fails("restore", path=repo, **fields) == (400, "BAD_REQUEST")


def test_restore_from_a_revision_brings_modes_and_links_back(
    git: Git, tmp_path: Path
) -> None:
    repo = repository(tmp_path / "repo")
    fill(repo, {"tool": "x", "d/one": "1"})
    (repo / "tool").chmod(0o755)
    (repo / "link").symlink_to("tool")
    commit(repo, "first")
    run("rm", "--quiet", "-r", "tool", "link", "d", cwd=repo)
    commit(repo, "gone")

    git.do("restore", path=repo, files=["tool", "link", "d"], source="HEAD~1")

    assert os.access(repo / "tool", os.X_OK)
    assert (repo / "link").readlink() == Path("tool")
    assert (repo / "d/one").read_text() == "1"


def test_unknown_file_or_source_restores_nothing(git: Git, repo: Path) -> None:
    fill(repo, {"a.txt": "edited"})

    for names in (["a.txt", "nope"], ["*.txt"]):
        assert git.fails("restore", path=repo, files=names) == (404, "FILE_NOT_FOUND")
    unknown = {"path": repo, "files": ["a.txt"], "source": "nope"}
    assert git.fails("restore", **unknown) == (404, "NOT_FOUND")
    assert (repo / "a.txt").read_text() == "edited"


def test_unmerged_file_is_not_restored(git: Git, repo: Path) -> None:
    conflict(repo)

    found = git.fails("restore", path=repo, files=["a.txt"])

    assert found == (409, "GIT_MERGE_CONFLICT")


# -- config --------------------------------------------------------------------------


@pytest.fixture
def global_file(git: Git) -> Path:
    """Return the user's configuration file, which is not there yet."""
    found = git.agent.home / ".gitconfig"
    found.unlink(missing_ok=True)
    return found


def test_value_is_set_and_told_in_one_scope_only(
    git: Git, repo: Path, global_file: Path
) -> None:
    git.do("config", key="user.name", value="Global")
    git.do("config", key="user.name", value="Local", scope="local", path=repo)

    assert git.told("config", key="user.name") == {"value": "Global"}
    assert git.told("config", key="user.name", scope="global") == {"value": "Global"}
    assert git.told("config", repo, key="user.name", scope="local") == {
        "value": "Local"
    }
    assert git.told("config", repo, key="user.email", scope="local") == {}
    assert "Global" in global_file.read_text()


def test_value_that_is_not_set_has_no_value(git: Git, global_file: Path) -> None:
    assert not global_file.exists()
    assert git.told("config", key="user.name") == {}


def test_setting_keeps_all_else_and_replaces_every_value(
    git: Git, global_file: Path
) -> None:
    global_file.write_text('# mine\n[a]\n\tb = 1\n\tb = 2\n[c "d.e"]\n\tf = x ; why\n')

    assert git.told("config", key="a.b") == {"value": "2"}
    git.do("config", key="a.b", value=" spaced ")
    git.do("config", key="c.d.e.g", value="-dash")
    git.do("config", key="c.empty", value="")

    text = global_file.read_text()
    assert "# mine" in text
    assert "; why" in text
    assert git.told("config", key="a.b") == {"value": " spaced "}
    assert git.told("config", key="c.d.e.g") == {"value": "-dash"}
    assert git.told("config", key="c.empty") == {"value": ""}
    assert text.count("b =") == 1


@pytest.mark.parametrize(
    "value",
    ['a "b" \\ c', "a\nb\tc", "x;y", "#x", "tail ", "a\rb", "tail\r", "ü\b", "true"],
)
@pytest.mark.usefixtures("global_file")
def test_git_reads_the_value_that_was_set(git: Git, repo: Path, value: str) -> None:
    git.do("config", key="a.b", value=value)
    git.do("config", key="a.b", value=value, scope="local", path=repo)

    assert git.told("config", key="a.b") == {"value": value}
    assert git.told("config", repo, key="a.b", scope="local") == {"value": value}


def test_setting_keeps_mode_and_link_of_the_file(
    git: Git, tmp_path: Path, global_file: Path
) -> None:
    real = tmp_path / "dotfiles"
    real.write_text("[a]\n\tb = 1\n")
    real.chmod(0o600)
    global_file.symlink_to(real)

    git.do("config", key="a.b", value="2")

    assert global_file.is_symlink()
    assert real.read_text() == "[a]\n\tb = 2\n"
    assert real.stat().st_mode & 0o777 == 0o600
    assert not list(git.agent.home.glob("**/.config*/config"))


def test_system_file_is_the_one_that_git_reads(tmp_path: Path) -> None:
    file = tmp_path / "system"
    with starting(tmp_path) as start:
        git = Git(start(env={"GIT_CONFIG_SYSTEM": str(file)}))
        git.do("config", key="a.b", value="1", scope="system")

        assert git.told("config", key="a.b", scope="system") == {"value": "1"}
    assert file.read_text() == "[a]\n\tb = 1\n"


def test_lock_of_somebody_else_on_the_configuration_is_left_alone(
    git: Git, global_file: Path
) -> None:
    lock = global_file.with_name(".gitconfig.lock")
    lock.write_text("theirs")
    try:
        assert git.fails("config", key="a.b", value="1") == (409, "CONFLICT")
        assert lock.read_text() == "theirs"
        assert not global_file.exists()
    finally:
        lock.unlink()


def test_user_is_configured(git: Git, repo: Path, global_file: Path) -> None:
    git.do("config/user", name="Ada", email="ada@x")
    git.do("config/user", name="Bob", email="b@x", scope="local", path=repo)

    assert "Ada" in global_file.read_text()
    assert run("config", "--local", "user.email", cwd=repo) == "b@x"


@pytest.mark.parametrize(
    "fields",
    [
        {"key": "nodot", "value": "x"},
        {"key": "a.1b", "value": "x"},
        {"key": "--list", "value": "x"},
        {"key": "a b.c", "value": "x"},
        {"key": "a.b\nc.d", "value": "x"},
        {"key": "a.b", "value": "x\0y"},
        {"key": "a.b", "value": "x", "scope": "wild"},
        {"key": "a.b", "value": "x", "scope": "local"},
    ],
)
def test_bad_key_scope_and_value_are_refused(git: Git, fields: dict[str, str]) -> None:
    assert git.fails("config", **fields) == (400, "BAD_REQUEST")
    if "\0" not in fields["value"]:
        del fields["value"]
        assert git.refused("config", **fields) == (400, "BAD_REQUEST")
