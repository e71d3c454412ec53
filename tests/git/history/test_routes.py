"""Differences, commits and blame of real repositories."""

import os
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.git.conftest import Git, failure
from tests.git.remote import commit, fill, git as run, repository


def changes(told: dict[str, object]) -> dict[str, str]:
    files = told["files"]
    assert isinstance(files, list)
    return {each["path"]: each["change"] for each in files}


# -- diff ----------------------------------------------------------------------------


def test_a_clean_repository_has_no_difference(git: Git, repo: Path) -> None:
    assert git.told("diff", repo) == {"files": [], "diff": "", "truncated": False}


def test_files_index_and_head_are_compared_as_asked(git: Git, repo: Path) -> None:
    fill(repo, {"a.txt": "staged\n", "new": "new\n"})
    run("add", "a.txt", cwd=repo)
    fill(repo, {"src/b.txt": "edited\n"})

    assert changes(git.told("diff", repo)) == {"src/b.txt": "Modified"}
    assert changes(git.told("diff", repo, staged="true")) == {"a.txt": "Modified"}
    assert changes(git.told("diff", repo, **{"from": "HEAD"})) == {
        "a.txt": "Modified",
        "src/b.txt": "Modified",
    }


def test_counts_and_text_tell_the_same(git: Git, repo: Path) -> None:
    fill(repo, {"a.txt": "one\ntwo\nthree\n", "src/b.txt": ""})

    told = git.told("diff", repo)

    assert [
        (each["path"], each["additions"], each["deletions"], each["binary"])
        for each in told["files"]
    ] == [("a.txt", 2, 0, False), ("src/b.txt", 0, 1, False)]
    assert told["diff"].startswith("diff --git a/a.txt b/a.txt\n")
    assert "\n+two\n+three\n" in told["diff"]


def test_revisions_are_compared(git: Git, repo: Path) -> None:
    first = run("rev-parse", "HEAD", cwd=repo)
    run("mv", "a.txt", "moved.txt", cwd=repo)
    commit(repo, "second", {"bin": "\0\1", "src/b.txt": "changed\n"})

    told = git.told("diff", repo, **{"from": first, "to": "HEAD"})
    plain = git.told("diff", repo, **{"from": first, "to": "HEAD", "renames": "false"})

    assert changes(told) == {
        "bin": "Added",
        "moved.txt": "Renamed",
        "src/b.txt": "Modified",
    }
    moved = next(each for each in told["files"] if each["path"] == "moved.txt")
    assert moved["previousPath"] == "a.txt"
    assert next(each["binary"] for each in told["files"] if each["path"] == "bin")
    assert changes(plain)["a.txt"] == "Deleted"


def test_the_merge_base_leaves_out_what_the_other_side_did(
    git: Git, repo: Path
) -> None:
    run("checkout", "-q", "-b", "topic", cwd=repo)
    commit(repo, "topic", {"topic": "x"})
    run("checkout", "-q", "main", cwd=repo)
    commit(repo, "main", {"main": "x"})

    told = git.told(
        "diff", repo, **{"from": "main", "to": "topic", "mergeBase": "true"}
    )

    assert changes(told) == {"topic": "Added"}


def test_untracked_files_are_told_when_asked_for(git: Git, repo: Path) -> None:
    fill(repo, {".gitignore": "*.log\n", "new": "new\n", "x.log": "x"})
    index = (repo / ".git/index").read_bytes()

    assert git.told("diff", repo)["files"] == []
    told = git.told("diff", repo, untracked="true")

    assert changes(told) == {".gitignore": "Added", "new": "Added"}
    assert "\n+new\n" in told["diff"]
    assert (repo / ".git/index").read_bytes() == index
    # The answer ends before its copy of the index goes; the test's limit ends the wait.
    while list((git.agent.state_dir / "git-scratch").iterdir()):
        git.told("diff", repo)


def test_one_file_or_directory_is_enough(git: Git, repo: Path) -> None:
    fill(repo, {"a.txt": "x\n", "src/b.txt": "x\n", "*": "x"})

    assert changes(git.told("diff", repo, file="src")) == {"src/b.txt": "Modified"}
    assert git.told("diff", repo, file="*")["files"] == []


def test_a_long_text_is_cut_at_a_line(git: Git, repo: Path) -> None:
    fill(repo, {"a.txt": "line\n" * 1000})

    told = git.told("diff", repo, maxBytes="500")

    assert told["truncated"] is True
    assert told["files"][0]["additions"] == 1000
    assert len(told["diff"]) <= 500
    assert told["diff"].endswith("line\n")


def test_the_text_alone_comes_byte_by_byte(git: Git, repo: Path) -> None:
    (repo / "a.txt").write_bytes(b"\xff\xfe\r\n")
    headers = {"Accept": "text/x-diff"}

    told = git.ask("GET", f"diff?{urlencode({'path': repo})}", headers=headers)

    assert told.headers["Content-Type"] == "text/x-diff"
    assert b"\n+\xff\xfe\r\n" in told.body
    assert "\ufffd" in git.told("diff", repo)["diff"]


def test_a_conflict_is_told_once(git: Git, repo: Path) -> None:
    run("checkout", "-q", "-b", "other", cwd=repo)
    commit(repo, "theirs", {"a.txt": "theirs\n"})
    run("checkout", "-q", "main", cwd=repo)
    commit(repo, "ours", {"a.txt": "ours\n"})
    run("merge", "other", cwd=repo, check=False)

    assert changes(git.told("diff", repo)) == {"a.txt": "Updated but unmerged"}


def test_a_name_that_is_not_utf_8_is_shown(git: Git, repo: Path) -> None:
    Path(os.fsdecode(os.fsencode(repo) + b"/\xff")).write_text("x")

    assert changes(git.told("diff", repo, untracked="true")) == {"\ufffd": "Added"}


def test_nothing_that_is_configured_runs(git: Git, repo: Path) -> None:
    fill(repo, {".gitattributes": "* diff=evil filter=evil\n", "a.txt": "changed\n"})
    ran = f"touch {repo}/ran"
    for key in ("diff.external", "diff.evil.command", "diff.evil.textconv"):
        run("config", key, ran, cwd=repo)
    for key in ("filter.evil.clean", "core.fsmonitor", "core.pager"):
        run("config", key, ran, cwd=repo)
    run("config", "diff.noprefix", "true", cwd=repo)
    run("config", "diff.orderFile", "/nowhere", cwd=repo)

    told = git.told("diff", repo)
    git.told("diff", repo, untracked="true")
    git.told("show", repo)
    git.told("blame", repo, file="a.txt")

    assert "a/a.txt b/a.txt" in told["diff"]
    assert not (repo / "ran").exists()


def test_a_nested_repository_runs_nothing_either(git: Git, repo: Path) -> None:
    nested = repository(repo / "nested", {"x": "x"})
    commit(repo, "with a nested one")
    fill(nested, {"x": "y", ".gitattributes": "* filter=evil\n"})
    for key in ("filter.evil.clean", "core.fsmonitor"):
        run("config", key, f"touch {repo}/ran", cwd=nested)

    git.told("diff", repo)
    git.told("diff", repo, untracked="true")

    assert not (repo / "ran").exists()


@pytest.mark.parametrize("name", ["--output=pwned", "-h", "--no-index", "nope", "a b"])
def test_a_revision_is_never_an_option(git: Git, repo: Path, name: str) -> None:
    for route in ("diff", "show"):
        key = "from" if route == "diff" else "revision"
        assert git.refused(route, repo, **{key: name})[0] in {400, 404}
    assert not (repo / "pwned").exists()


@pytest.mark.parametrize(
    "query",
    [
        {"to": "HEAD"},
        {"mergeBase": "true"},
        {"from": "HEAD", "to": "HEAD", "staged": "true"},
        {"context": "-1"},
        {"context": "many"},
        {"maxBytes": "0"},
        {"file": "a\0"},
    ],
)
def test_a_difference_that_makes_no_sense_is_refused(
    git: Git, repo: Path, query: dict[str, str]
) -> None:
    assert git.refused("diff", repo, **query)[0] == 400


def test_an_unborn_branch_has_a_difference(git: Git, tmp_path: Path) -> None:
    repo = repository(tmp_path / "empty")
    fill(repo, {"a": "x\n"})
    run("add", "a", cwd=repo)

    assert changes(git.told("diff", repo, staged="true")) == {"a": "Added"}


# -- show ----------------------------------------------------------------------------


def test_a_commit_is_shown_with_what_it_changed(git: Git, repo: Path) -> None:
    first = run("rev-parse", "HEAD", cwd=repo)
    second = commit(repo, "subject\n\nbody", {"a.txt": "two\n"})

    told = git.told("show", repo)
    root = git.told("show", repo, revision=first)

    assert told["commit"]["hash"] == second
    assert told["commit"]["parents"] == [first]
    assert told["commit"]["message"] == "subject\n\nbody\n"
    assert told["commit"]["author"]["email"] == "setup@example.test"
    assert changes(told) == {"a.txt": "Modified"}
    assert changes(root) == {"a.txt": "Added", "src/b.txt": "Added"}


def test_a_file_is_shown_as_it_was(git: Git, repo: Path) -> None:
    (repo / "a.txt").write_bytes(bytes(range(256)) * 5000)
    run("add", "a.txt", cwd=repo)
    commit(repo, "second")
    fill(repo, {"a.txt": "now"})

    told = git.get("show", repo, file="a.txt")

    assert told.body == bytes(range(256)) * 5000
    assert told.headers["Content-Length"] == str(256 * 5000)
    assert git.get("show", repo, file="a.txt", revision="HEAD~1").body == b"one\n"


def test_what_is_no_file_of_a_commit_is_told(git: Git, repo: Path) -> None:
    assert git.refused("show", repo, file="nope") == (404, "FILE_NOT_FOUND")
    assert git.refused("show", repo, file="src")[0] == 400
    assert git.refused("show", repo, revision="nope") == (404, "NOT_FOUND")
    assert git.refused("show", repo / "src")[0] == 404


# -- blame ---------------------------------------------------------------------------


def test_every_line_has_its_commit(git: Git, repo: Path) -> None:
    first = run("rev-parse", "HEAD", cwd=repo)
    second = commit(repo, "more", {"a.txt": "one\ntwo\n"})
    fill(repo, {"a.txt": "zero\none\ntwo\n"})

    told = git.told("blame", repo, file="a.txt")

    assert [
        (each["line"], each["hash"], each["content"]) for each in told["lines"]
    ] == [
        (1, "0" * 40, "zero"),
        (2, first, "one"),
        (3, second, "two"),
    ]
    assert told["commits"][second]["summary"] == "more"
    assert told["commits"][first]["author"] == "Setup"
    assert told["truncated"] is False


def test_a_part_of_the_lines_is_enough(git: Git, repo: Path) -> None:
    commit(repo, "many", {"a.txt": "".join(f"{each}\n" for each in range(100))})

    told = git.told("blame", repo, file="a.txt", start="10", end="12", revision="HEAD")

    assert [each["line"] for each in told["lines"]] == [10, 11, 12]
    assert (
        git.told("blame", repo, file="a.txt", start="99", end="500")["lines"][1]["line"]
        == 100
    )
    assert git.refused("blame", repo, file="a.txt", start="101")[0] == 400


def test_an_empty_file_has_no_lines(git: Git, repo: Path) -> None:
    commit(repo, "empty", {"empty": ""})

    assert git.told("blame", repo, file="empty")["lines"] == []


@pytest.mark.parametrize("name", ["nope", "-L1", "--help", "src", ".git/config"])
def test_a_file_without_blame_is_told(git: Git, repo: Path, name: str) -> None:
    assert git.refused("blame", repo, file=name)[0] in {400, 404}


def test_a_missing_file_is_asked_for(git: Git, repo: Path) -> None:
    assert failure(git.get("blame", repo))[0] == 400
