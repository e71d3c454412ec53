"""Checkpoints of real directories, through a real agent."""

import os
import shutil
import socket
from pathlib import Path

import pytest

from tests.git.checkpoints.conftest import Desk, picture, times
from tests.git.conftest import failure
from tests.git.remote import fill, git as run, repository

STRANGE = os.fsdecode(b"\xff\xfe.txt")
"""A name that is not UTF-8."""


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """Return a directory that is no repository, with all that can be kept."""
    root = tmp_path / "plain"
    root.mkdir()
    fill(root, {"a.txt": "one\n", "src/b.py": "print()\n", "src/deep/c": "c"})
    (root / "binary").write_bytes(bytes(range(256)) * 40)
    (root / "crlf").write_bytes(b"one\r\ntwo\r\n")
    (root / "nothing").touch()
    (root / "program").write_text("#!/bin/sh\n")
    (root / "program").chmod(0o755)
    (root / "secret").write_text("s")
    (root / "secret").chmod(0o600)
    (root / "link").symlink_to("a.txt")
    (root / "broken").symlink_to("/nowhere/at all")
    (root / "to_dir").symlink_to("src")
    (root / "empty/below").mkdir(parents=True)
    (root / "private").mkdir()
    (root / "private/x").write_text("x")
    (root / "private").chmod(0o700)
    (root / STRANGE).write_bytes(b"no utf-8")
    fill(root, {"line\nend": "x", 'quo"te\\': "x", "-rf": "x", "git~1": "x", " ": "x"})
    return root


def test_a_plain_directory_comes_back_to_the_bit(desk: Desk, plain: Path) -> None:
    before = picture(plain)
    made = desk.take(plain, message="first")
    shutil.rmtree(plain / "src")
    (plain / "a.txt").write_text("two\n")
    (plain / "secret").chmod(0o644)
    (plain / "program").chmod(0o644)
    (plain / "link").unlink()
    (plain / "link").mkdir()
    fill(plain, {"link/in": "x", "new/file": "x", "empty/below/file": "x"})
    (plain / "to_dir").unlink()
    (plain / "private").chmod(0o755)
    (plain / STRANGE).unlink()
    (plain / "empty2").mkdir()

    told = desk.restore(plain, made)

    assert picture(plain) == before
    assert {"path": "new/file", "action": "delete"} in told["changes"]
    assert {"path": "\ufffd\ufffd.txt", "action": "write"} in told["changes"]
    assert told["changesCount"] == len(told["changes"])


def test_a_restore_can_be_taken_back(desk: Desk, plain: Path) -> None:
    made = desk.take(plain)
    fill(plain, {"a.txt": "changed", "new": "new"})
    (plain / "src/b.py").unlink()
    after = picture(plain)

    told = desk.restore(plain, made)
    desk.restore(plain, {"id": told["before"]})

    assert picture(plain) == after


def test_a_checkpoint_says_what_it_has(desk: Desk, plain: Path) -> None:
    first = desk.take(plain, message="all of it \u2713")
    fill(plain, {"a.txt": "changed", "new": "new"})
    second = desk.take(plain)

    assert first["message"] == "all of it \u2713"
    assert first["files"] == first["filesChanged"] == 18
    assert second["files"] == 19
    assert second["filesChanged"] == 2
    assert second["bytes"] == first["bytes"] + len("changed" + "new") - len("one\n")
    assert desk.told(plain) == {"checkpoints": [second, first]}


def test_a_repository_is_not_touched(desk: Desk, repo: Path) -> None:
    fill(repo, {"a.txt": "edited", "staged": "staged", "new": "new"})
    run("add", "staged", cwd=repo)
    before = times(repo / ".git")
    made = desk.take(repo)
    assert times(repo / ".git") == before
    fill(repo, {"a.txt": "again", "newer": "x"})
    state = times(repo / ".git")

    desk.restore(repo, made)
    desk.diff(repo, made)

    assert times(repo / ".git") == state
    assert (repo / "a.txt").read_text() == "edited"
    assert not (repo / "newer").exists()
    assert run("diff", "--cached", "--name-only", cwd=repo) == "staged"


def test_what_is_ignored_stays_as_it_is(desk: Desk, repo: Path) -> None:
    fill(
        repo,
        {
            ".gitignore": "*.log\nbuild/\n",
            ".git/info/exclude": "mine\n",
            "x.log": "old",
            "build/out": "old",
            "mine": "old",
        },
    )
    made = desk.take(repo)
    fill(repo, {"x.log": "new", "build/out": "new", "mine": "new", "y.log": "new"})

    told = desk.restore(repo, made)

    assert told["changesCount"] == 0
    assert [(repo / name).read_text() for name in ("x.log", "build/out", "mine")] == [
        "new"
    ] * 3
    assert (repo / "y.log").exists()


def test_what_is_ignored_comes_along_when_asked_for(desk: Desk, repo: Path) -> None:
    fill(repo, {".gitignore": "*.log\n", "x.log": "old"})
    made = desk.take(repo, includeIgnored=True)
    fill(repo, {"x.log": "new", "y.log": "new"})

    desk.restore(repo, made)

    assert made["includeIgnored"] is True
    assert (repo / "x.log").read_text() == "old"
    assert not (repo / "y.log").exists()


def test_a_tracked_file_is_kept_although_a_pattern_ignores_it(
    desk: Desk, repo: Path
) -> None:
    fill(repo, {".gitignore": "*.log\n", "kept.log": "old", "not.log": "old"})
    run("add", "--force", "kept.log", cwd=repo)
    made = desk.take(repo)
    fill(repo, {"kept.log": "new", "not.log": "new"})

    desk.restore(repo, made)

    assert (repo / "kept.log").read_text() == "old"
    assert (repo / "not.log").read_text() == "new"


def test_a_file_that_is_ignored_by_now_is_kept_before_it_is_written_over(
    desk: Desk, plain: Path
) -> None:
    fill(plain, {"later.log": "old"})
    made = desk.take(plain)
    fill(plain, {".gitignore": "*.log\n", "later.log": "new"})

    told = desk.restore(plain, made)
    assert (plain / "later.log").read_text() == "old"
    desk.restore(plain, {"id": told["before"]})

    assert (plain / "later.log").read_text() == "new"


def test_a_file_that_was_ignored_then_is_not_deleted(desk: Desk, plain: Path) -> None:
    fill(plain, {".gitignore": "*.log\n", "sub/x.log": "mine", "sub/y": "y"})
    made = desk.take(plain)
    fill(plain, {".gitignore": "nothing\n", "sub/z": "z"})

    desk.restore(plain, made)

    assert (plain / "sub/x.log").read_text() == "mine"
    assert not (plain / "sub/z").exists()
    assert (plain / ".gitignore").read_text() == "*.log\n"


def test_an_ignored_file_in_the_way_stops_the_restore(desk: Desk, plain: Path) -> None:
    fill(plain, {"thing": "a file"})
    made = desk.take(plain)
    (plain / "thing").unlink()
    fill(plain, {".gitignore": "*.log\n", "thing/x.log": "mine", "a.txt": "new"})
    before = picture(plain)

    status, message = desk.cannot_restore(plain, made)

    assert status == 409
    assert "thing/x.log" in message
    assert picture(plain) == before
    assert len(desk.told(plain)["checkpoints"]) == 1


def test_a_nested_repository_is_a_plain_directory(desk: Desk, repo: Path) -> None:
    nested = repository(repo / "vendor/lib", {"lib.c": "int x;\n"})
    fill(nested, {".gitignore": "*.o\n", "lib.o": "old", "sub/new.c": "new"})
    inner = times(nested / ".git")
    made = desk.take(repo)
    fill(nested, {"lib.c": "int y;\n", "lib.o": "new"})
    shutil.rmtree(nested / "sub")

    desk.restore(repo, made)

    assert (nested / "lib.c").read_text() == "int x;\n"
    assert (nested / "lib.o").read_text() == "new"
    assert (nested / "sub/new.c").read_text() == "new"
    assert times(nested / ".git") == inner
    assert made["files"] == 5


def test_a_nested_repository_of_later_is_left_with_its_git_directory(
    desk: Desk, repo: Path
) -> None:
    made = desk.take(repo)
    repository(repo / "later", {"x": "x"})

    desk.restore(repo, made)

    assert [each.name for each in (repo / "later").iterdir()] == [".git"]


def test_nothing_is_converted_on_the_way(desk: Desk, repo: Path) -> None:
    fill(
        repo,
        {".gitattributes": "* text=auto eol=crlf ident filter=evil diff=evil\n"},
    )
    for key in ("clean", "smudge", "process"):
        run("config", f"filter.evil.{key}", f"touch {repo}/ran", cwd=repo)
    run("config", "core.autocrlf", "true", cwd=repo)
    run("config", "core.fsmonitor", f"touch {repo}/ran", cwd=repo)
    content = b"$Id$\r\nmixed\n\r\n\xff"
    (repo / "mixed").write_bytes(content)
    hook = repo / ".git/hooks/post-index-change"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {repo}/ran\n")
    hook.chmod(0o755)
    made = desk.take(repo)
    (repo / "mixed").write_bytes(b"other")

    desk.diff(repo, made)
    desk.restore(repo, made)

    assert (repo / "mixed").read_bytes() == content
    assert not (repo / "ran").exists()


def test_part_of_a_directory_can_be_restored(desk: Desk, plain: Path) -> None:
    made = desk.take(plain)
    fill(plain, {"a.txt": "new", "src/b.py": "new", "src/more": "new", "more": "new"})

    told = desk.restore(plain, made, paths=["src"])

    assert (plain / "src/b.py").read_text() == "print()\n"
    assert not (plain / "src/more").exists()
    assert (plain / "a.txt").read_text() == "new"
    assert (plain / "more").exists()
    assert told["changesCount"] == 2


@pytest.mark.parametrize("path", ["/etc", "..", "../x", "", ".", "a/../../x"])
def test_paths_of_a_restore_stay_inside(desk: Desk, plain: Path, path: str) -> None:
    made = desk.take(plain)

    assert desk.cannot_restore(plain, made, paths=[path])[0] == 400


def test_a_dry_run_tells_and_changes_nothing(desk: Desk, plain: Path) -> None:
    made = desk.take(plain)
    fill(plain, {"a.txt": "new", "new": "new"})
    (plain / "src/b.py").unlink()
    before = times(plain)

    told = desk.restore(plain, made, dry_run=True)

    assert told["changes"] == [
        {"path": "a.txt", "action": "write"},
        {"path": "src/b.py", "action": "write"},
        {"path": "new", "action": "delete"},
    ]
    assert times(plain) == before
    assert len(desk.told(plain)["checkpoints"]) == 1


def test_differences_are_told_by_file_and_as_text(desk: Desk, plain: Path) -> None:
    first = desk.take(plain)
    fill(plain, {"a.txt": "one\ntwo\n", "new": "new\n"})
    second = desk.take(plain)
    (plain / "binary").write_bytes(bytes(100))

    told = desk.diff(plain, first, to=second["id"])
    now = desk.diff(plain, second)

    assert [(each["path"], each["change"]) for each in told["files"]] == [
        ("a.txt", "Modified"),
        ("new", "Added"),
    ]
    assert told["files"][0]["additions"] == 1
    assert told["truncated"] is False
    assert "\n+two\n" in told["diff"]
    assert [(each["path"], each["binary"]) for each in now["files"]] == [
        ("binary", True)
    ]


def test_an_untouched_directory_has_no_difference(desk: Desk, plain: Path) -> None:
    made = desk.take(plain)

    assert desk.diff(plain, made) == {"files": [], "diff": "", "truncated": False}


def test_pipes_and_sockets_are_left_alone(desk: Desk, plain: Path) -> None:
    os.mkfifo(plain / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(plain / "socket"))
        made = desk.take(plain)
        fill(plain, {"a.txt": "new"})

        desk.restore(plain, made)

    assert (plain / "pipe").is_fifo()
    assert (plain / "socket").is_socket()
    assert made["files"] == 18


def test_attributes_that_are_a_pipe_are_refused_at_once(
    desk: Desk, plain: Path
) -> None:
    os.mkfifo(plain / "src/.gitattributes")

    answer = desk.ask("POST", plain)

    assert failure(answer)[0] == 400
    assert "src/.gitattributes" in answer.json()["message"]


@pytest.mark.parametrize("is_repository", [False, True])
def test_patterns_that_are_a_pipe_are_refused_soon(
    desk: Desk, plain: Path, repo: Path, is_repository: bool
) -> None:
    place = repo if is_repository else plain
    os.mkfifo(place / "src/.gitignore")

    answer = desk.ask("POST", place)

    assert failure(answer)[0] == 400
    assert "src/.gitignore" in answer.json()["message"]
    assert desk.told(place)["checkpoints"] == []


def test_a_directory_inside_a_repository_keeps_the_rules_above(
    desk: Desk, repo: Path
) -> None:
    fill(repo, {".gitignore": "*.log\n", "src/x.log": "x", "src/new": "x"})

    assert desk.take(repo / "src")["files"] == 2


def test_a_directory_that_is_ignored_as_a_whole_can_be_kept(
    desk: Desk, repo: Path
) -> None:
    fill(repo, {".gitignore": "out/\n", "out/x": "x"})

    assert desk.take(repo / "out")["files"] == 1


def test_a_deleted_checkpoint_is_gone(desk: Desk, plain: Path) -> None:
    first, second = desk.take(plain), desk.take(plain)

    assert desk.ask("DELETE", plain, f"/{first['id']}").status == 204

    assert desk.told(plain)["checkpoints"] == [second]
    assert failure(desk.ask("DELETE", plain, f"/{first['id']}")) == (404, "NOT_FOUND")
    assert desk.cannot_restore(plain, first)[0] == 404


def test_the_last_deleted_checkpoint_takes_the_store_with_it(
    desk: Desk, plain: Path
) -> None:
    before = desk.stores
    made = desk.take(plain)
    assert len(desk.stores) == len(before) + 1

    desk.ask("DELETE", plain, f"/{made['id']}")

    assert desk.stores == before
    assert desk.told(plain) == {"checkpoints": []}


@pytest.mark.parametrize("name", ["0" * 16, "..", "HEAD", "-x", "a/b", "%00"])
def test_an_unknown_checkpoint_is_not_found(desk: Desk, plain: Path, name: str) -> None:
    desk.take(plain)

    assert desk.ask("GET", plain, f"/{name}/diff").status == 404


def test_directories_of_the_agent_and_of_git_have_no_checkpoints(
    desk: Desk, repo: Path
) -> None:
    state_dir = desk.git.agent.state_dir

    for path in (Path("/"), state_dir, state_dir / "x", repo / ".git"):
        assert desk.ask("POST", path).status in {400, 404}, path
    assert failure(desk.ask("POST", repo / ".git"))[0] == 400


def test_the_agents_own_directory_is_no_part_of_a_state(desk: Desk) -> None:
    root = desk.git.agent.state_dir.parent
    made = desk.take(root, includeIgnored=True)
    told = desk.restore(root, made, dry_run=True)

    assert [each for each in told["changes"] if each["path"].startswith("state")] == []
    assert desk.told(root)["checkpoints"] == [made]


def test_a_missing_directory_and_a_file_are_told(desk: Desk, plain: Path) -> None:
    assert failure(desk.ask("POST", plain / "missing")) == (404, "FILE_NOT_FOUND")
    assert failure(desk.ask("POST", plain / "a.txt"))[0] == 400


def test_a_directory_that_was_deleted_has_its_checkpoints_still(
    desk: Desk, plain: Path
) -> None:
    before = picture(plain)
    made = desk.take(plain)
    shutil.rmtree(plain)
    assert [each["id"] for each in desk.told(plain)["checkpoints"]] == [made["id"]]
    plain.mkdir()

    desk.restore(plain, made)

    assert picture(plain) == before


def test_a_corrupt_repository_can_be_kept(desk: Desk, repo: Path) -> None:
    (repo / ".git/index").write_bytes(b"garbage")
    (repo / ".git/HEAD").unlink()

    assert desk.take(repo)["files"] == 2


def test_a_name_that_is_not_utf_8_has_checkpoints(desk: Desk, tmp_path: Path) -> None:
    root = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    root.mkdir()
    fill(root, {"a": "old"})
    made = desk.take(root)
    fill(root, {"a": "new"})

    desk.restore(root, made)

    assert (root / "a").read_text() == "old"
