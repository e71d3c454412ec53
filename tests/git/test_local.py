"""Local work: status, add, commit, history, branches, checkout, init."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.git.conftest import AUTHOR, Git, failure
from tests.git.remote import commit, fill, git as run, repository


def head(path: Path) -> str:
    return run("rev-parse", "HEAD", cwd=path)


# -- status --------------------------------------------------------------------------


def test_clean_repository_has_its_branch_and_no_files(git: Git, repo: Path) -> None:
    assert git.told("status", repo) == {
        "currentBranch": "main",
        "fileStatus": [],
        "branchPublished": False,
        "ahead": 0,
        "behind": 0,
    }


def test_every_state_of_a_file_has_its_words(git: Git, tmp_path: Path) -> None:
    names = ["edited", "both", "staged", "gone", "removed", "again", "moved", "link"]
    repo = repository(tmp_path / "repo", {name: f"{name}\n" for name in names})
    fill(repo, {"edited": "x", "both": "x", "staged": "x", "new": "x", "later": "x"})
    run("add", "both", "staged", "new", "later", cwd=repo)
    fill(repo, {"both": "y", "later": "y", "dir/untracked": "", "dir/two": ""})
    (repo / "gone").unlink()
    run("rm", "--quiet", "removed", cwd=repo)
    run("rm", "--quiet", "--cached", "again", cwd=repo)
    run("mv", "moved", "renamed", cwd=repo)
    (repo / "link").unlink()
    (repo / "link").symlink_to("edited")
    fill(repo, {".gitignore": "ignored\n", "ignored": ""})

    assert git.files(repo) == {
        ".gitignore": ("Untracked", "Untracked"),
        "again": ("Untracked", "Untracked"),
        "both": ("Modified", "Modified"),
        "dir/two": ("Untracked", "Untracked"),
        "dir/untracked": ("Untracked", "Untracked"),
        "edited": ("Unmodified", "Modified"),
        "gone": ("Unmodified", "Deleted"),
        "later": ("Added", "Modified"),
        "link": ("Unmodified", "Modified"),
        "moved": ("Deleted", "Unmodified"),
        "new": ("Added", "Unmodified"),
        "removed": ("Deleted", "Unmodified"),
        "renamed": ("Added", "Unmodified"),
        "staged": ("Modified", "Unmodified"),
    }


def test_files_are_sorted_and_names_are_raw(git: Git, repo: Path) -> None:
    names = ["z", "ä ü", 'a"b', "tab\tin", "-dash", "line\nend"]
    fill(repo, dict.fromkeys(names, ""))

    told = [each["name"] for each in git.told("status", repo)["fileStatus"]]

    assert told == sorted(names, key=str.encode)


def test_name_that_is_not_text_is_told_with_replacement_characters(
    git: Git, repo: Path
) -> None:
    Path(os.fsdecode(os.fsencode(repo) + b"/\xff\xfe.txt")).touch()

    assert list(git.files(repo)) == ["\ufffd\ufffd.txt"]


def test_unmerged_file_is_told_on_both_sides(git: Git, repo: Path) -> None:
    conflict(repo)

    both = ("Updated but unmerged", "Updated but unmerged")
    assert git.files(repo)["a.txt"] == both


def test_unborn_branch_has_a_status(git: Git, tmp_path: Path) -> None:
    repo = repository(tmp_path / "empty")

    told = git.told("status", repo)

    assert told["currentBranch"] == "main"
    assert "detached" not in told


def test_detached_head_is_told(git: Git, repo: Path) -> None:
    run("checkout", "--quiet", "--detach", cwd=repo)

    told = git.told("status", repo)

    assert (told["currentBranch"], told["detached"]) == ("HEAD", True)


def test_upstream_ahead_and_behind_are_counted(
    git: Git, repo: Path, tmp_path: Path
) -> None:
    clone = tmp_path / "clone"
    run("clone", "--quiet", str(repo), str(clone), cwd=tmp_path)
    commit(repo, "theirs")
    commit(clone, "ours 1")
    commit(clone, "ours 2")
    run("fetch", "--quiet", cwd=clone)

    told = git.told("status", clone)

    assert told["branchPublished"] is True
    assert (told["ahead"], told["behind"]) == (2, 1)
    assert told["upstream"] == "origin/main"


def test_upstream_that_is_gone_is_not_published(
    git: Git, repo: Path, tmp_path: Path
) -> None:
    clone = tmp_path / "clone"
    run("clone", "--quiet", str(repo), str(clone), cwd=tmp_path)
    run("update-ref", "-d", "refs/remotes/origin/main", cwd=clone)

    assert git.told("status", clone)["branchPublished"] is False


def test_first_go_sdk_is_told_no_field_that_it_does_not_know(
    git: Git, repo: Path
) -> None:
    run("checkout", "--quiet", "--detach", cwd=repo)
    old = {"X-Daytona-Source": "sdk-go", "X-Daytona-SDK-Version": "0.187.9"}

    status = git.ask("GET", f"status?path={repo}", headers=old).json()
    branches = git.ask("GET", f"branches?path={repo}", headers=old).json()

    assert "detached" not in status
    assert "current" not in branches


# -- which repository ----------------------------------------------------------------


@pytest.mark.parametrize("name", ["src", "missing", "a.txt"])
def test_only_the_root_itself_is_a_repository(git: Git, repo: Path, name: str) -> None:
    for route in ("status", "branches", "history", "remotes"):
        assert git.refused(route, repo / name) == (404, "GIT_REPO_NOT_FOUND")
    assert git.fails("add", path=repo / name, files=["."]) == (
        404,
        "GIT_REPO_NOT_FOUND",
    )


def test_relative_path_and_home_are_resolved_as_everywhere(git: Git) -> None:
    repository(git.agent.work_dir / "relative")
    repository(git.agent.home / "at-home")

    assert git.told("status", "relative")["currentBranch"] == "main"
    assert git.told("status", "~/at-home")["currentBranch"] == "main"


def test_missing_path_is_refused(git: Git) -> None:
    assert git.refused("status") == (400, "BAD_REQUEST")
    assert git.refused("history") == (400, "BAD_REQUEST")
    assert git.fails("add", files=["."]) == (400, "INVALID_REQUEST_BODY")
    assert git.fails("add", path="", files=["."]) == (400, "INVALID_REQUEST_BODY")
    assert git.fails("add", path="x", files=None) == (400, "INVALID_REQUEST_BODY")


def test_bare_repository_has_branches_and_history_but_no_files(
    git: Git, repo: Path, tmp_path: Path
) -> None:
    bare = tmp_path / "bare.git"
    run("clone", "--quiet", "--bare", str(repo), str(bare), cwd=tmp_path)

    assert git.told("branches", bare) == {"branches": ["main"], "current": "main"}
    assert len(git.told("history", bare)) == 1
    assert git.refused("status", bare) == (400, "BAD_REQUEST")
    for route, fields in (
        ("add", {"files": ["."]}),
        ("checkout", {"branch": "main"}),
        ("restore", {"files": ["a.txt"]}),
        ("reset", {"mode": "hard"}),
        ("commit", {"message": "m", **AUTHOR}),
    ):
        assert git.fails(route, path=bare, **fields) == (400, "BAD_REQUEST"), route


def test_linked_work_tree_is_a_repository_of_its_own(
    git: Git, repo: Path, tmp_path: Path
) -> None:
    linked = tmp_path / "linked"
    run("worktree", "add", "--quiet", "-b", "side", str(linked), cwd=repo)
    fill(linked, {"new": ""})

    git.do("add", path=linked, files=["."])
    made = git.commit(linked)

    assert head(linked) == made != head(repo)
    assert git.told("status", linked)["currentBranch"] == "side"


def test_work_tree_of_a_bare_repository_has_files(
    git: Git, repo: Path, tmp_path: Path
) -> None:
    bare, linked = tmp_path / "bare.git", tmp_path / "linked"
    run("clone", "--quiet", "--bare", str(repo), str(bare), cwd=tmp_path)
    run("worktree", "add", "--quiet", str(linked), "main", cwd=bare)
    fill(linked, {"a.txt": "edited"})

    assert git.files(linked) == {"a.txt": ("Unmodified", "Modified")}


@pytest.mark.parametrize(
    "damage", ["HEAD", "index", "objects", "config", "head-content"]
)
def test_damaged_repository_is_a_typed_failure(
    git: Git, repo: Path, damage: str
) -> None:
    inner = repo / ".git"
    match damage:
        case "HEAD":
            (inner / "HEAD").unlink()
        case "index":
            (inner / "index").write_bytes(b"DIRC garbage")
        case "objects":
            for each in (inner / "objects").glob("??/*"):
                each.chmod(0o600)
                each.write_bytes(b"")
        case "config":
            (inner / "config").write_text("[core\nnonsense")
        case _:
            (inner / "HEAD").write_text("nonsense\n")

    for answer in (
        git.get("status", repo),
        git.get("history", repo),
        git.post("commit", path=repo, message="m", **AUTHOR, allow_empty=True),
        git.post("reset", path=repo, mode="hard"),
    ):
        if answer.status >= 400:
            assert 400 <= failure(answer)[0] < 500, answer.body
    wanted = {"index": "status", "objects": "history"}.get(damage, "status")
    assert git.refused(wanted, repo)[0] in {404, 409}


# -- add -----------------------------------------------------------------------------


def test_everything_is_added_deletions_too(git: Git, repo: Path) -> None:
    fill(repo, {"new/deep": "", ".gitignore": "ignored\n", "ignored": ""})
    (repo / "a.txt").unlink()

    git.do("add", path=repo, files=["."])

    assert git.files(repo) == {
        ".gitignore": ("Added", "Unmodified"),
        "a.txt": ("Deleted", "Unmodified"),
        "new/deep": ("Added", "Unmodified"),
    }


def test_named_files_are_added_and_no_others(git: Git, repo: Path) -> None:
    fill(repo, {"x": "", "y": "", "d/1": "", "d/2": ""})
    (repo / "src/b.txt").unlink()

    git.do("add", path=repo, files=["x", "d", "src/b.txt"])

    staged = {
        name for name, words in git.files(repo).items() if words[1] != "Untracked"
    }
    assert staged == {"x", "d/1", "d/2", "src/b.txt"}
    assert git.files(repo)["y"] == ("Untracked", "Untracked")


def test_ignored_file_is_added_when_it_is_named_only(git: Git, repo: Path) -> None:
    fill(repo, {".gitignore": "*.log\nall/\n", "d/a.log": "", "d/b": "", "all/x": ""})

    git.do("add", path=repo, files=["d", "all"])
    assert "d/a.log" not in git.files(repo)

    git.do("add", path=repo, files=["d/a.log", "all/x"])
    assert git.files(repo)["d/a.log"] == ("Added", "Unmodified")
    assert git.files(repo)["all/x"] == ("Added", "Unmodified")


def test_names_are_literal(git: Git, repo: Path) -> None:
    names = ["*", ":(glob)x", "-A", "[ab]", "!x"]
    fill(repo, {**dict.fromkeys(names, ""), "other": "", "a": ""})

    git.do("add", path=repo, files=names)

    staged = {name for name, words in git.files(repo).items() if words[0] == "Added"}
    assert staged == set(names)


def test_unknown_file_stages_nothing(git: Git, repo: Path) -> None:
    fill(repo, {"x": "", "d/y": ""})

    for names in (["x", "nope"], ["d", "x", "nope/deeper"], ["x", "*.txt"]):
        assert git.fails("add", path=repo, files=names) == (404, "FILE_NOT_FOUND")
        assert git.files(repo)["x"] == ("Untracked", "Untracked")


@pytest.mark.parametrize("name", ["", "a\0b", "../outside"])
def test_name_that_can_be_none_of_the_repository_is_refused(
    git: Git, repo: Path, name: str
) -> None:
    (repo.parent / "outside").touch()

    assert git.fails("add", path=repo, files=[name]) == (400, "BAD_REQUEST")


def test_file_behind_a_link_is_refused(git: Git, repo: Path, tmp_path: Path) -> None:
    fill(tmp_path / "elsewhere", {"secret": "x"})
    (repo / "link").symlink_to(tmp_path / "elsewhere")

    assert git.fails("add", path=repo, files=["link/secret"]) == (400, "BAD_REQUEST")


def test_no_files_are_no_failure(git: Git, repo: Path) -> None:
    fill(repo, {"x": ""})

    git.do("add", path=repo, files=[])

    assert git.files(repo) == {"x": ("Untracked", "Untracked")}


# -- commit and history --------------------------------------------------------------


def test_commit_has_message_author_and_committer_to_the_letter(
    git: Git, repo: Path
) -> None:
    message = "# no comment\n\n  indented\ttext ü \n\n\nlast line"
    fill(repo, {"new": ""})
    git.do("add", path=repo, files=["new"])

    made = git.commit(repo, message)

    raw = run("cat-file", "commit", made, cwd=repo)
    assert (
        raw.partition("\n\n")[2].encode("utf-8", "surrogateescape").decode() == message
    )
    assert head(repo) == made
    who = run("log", "-1", "--format=%an|%ae|%cn|%ce", cwd=repo)
    assert who == "Ada Lovelace|ada@example.test|Ada Lovelace|ada@example.test"


def test_commit_takes_the_index_only(git: Git, repo: Path) -> None:
    fill(repo, {"a.txt": "staged\n", "src/b.txt": "not staged\n"})
    git.do("add", path=repo, files=["a.txt"])

    git.commit(repo)

    assert git.files(repo) == {"src/b.txt": ("Unmodified", "Modified")}


def test_commit_of_nothing_is_refused_unless_asked_for(git: Git, repo: Path) -> None:
    before = head(repo)

    answer = git.post("commit", path=repo, message="m", **AUTHOR)

    assert failure(answer) == (409, "CONFLICT")
    assert "empty commit" in answer.json()["message"]
    assert head(repo) == before
    assert git.commit(repo, allow_empty=True) != before


def test_commit_of_nothing_among_untracked_files_is_refused(
    git: Git, repo: Path
) -> None:
    fill(repo, {"untracked": "", "a.txt": "edited"})

    assert git.fails("commit", path=repo, message="m", **AUTHOR) == (409, "CONFLICT")


def test_first_commit_makes_the_branch(git: Git, tmp_path: Path) -> None:
    repo = repository(tmp_path / "repo")
    fill(repo, {"x": ""})
    git.do("add", path=repo, files=["."])

    made = git.commit(repo)

    assert head(repo) == made


@pytest.mark.parametrize(
    "words",
    [
        ["checkout", "-q", "--detach"],
        ["checkout", "-q", "-b", "deep/er"],
        ["pack-refs", "--all"],
        ["symbolic-ref", "refs/heads/also", "refs/heads/main"],
        ["worktree", "add", "-q", "../linked"],
    ],
    ids=["detached", "deep", "packed", "symbolic", "linked"],
)
def test_commit_tells_its_hash_wherever_head_is(
    git: Git, repo: Path, words: list[str]
) -> None:
    run(*words, cwd=repo)
    if "symbolic-ref" in words:
        (repo / ".git/HEAD").write_text("ref: refs/heads/also\n")
    linked = repo.parent / "linked"
    place = linked if linked.exists() else repo
    before = head(place)

    made = git.commit(place, allow_empty=True)

    assert made == head(place) != before
    assert run("rev-parse", f"{made}^", cwd=place) == before


def test_commit_of_a_merge_has_both_parents(git: Git, repo: Path) -> None:
    conflict(repo)
    assert git.fails("commit", path=repo, message="m", **AUTHOR) == (
        409,
        "GIT_MERGE_CONFLICT",
    )
    fill(repo, {"a.txt": "resolved"})
    git.do("add", path=repo, files=["a.txt"])

    made = git.commit(repo)

    assert len(run("rev-parse", f"{made}^@", cwd=repo).split()) == 2


def test_characters_that_no_name_may_have_are_left_out(git: Git, repo: Path) -> None:
    author = {"author": "A <b>\nC", "email": "<a@b>\n"}

    git.do("commit", path=repo, message="m", **author, allow_empty=True)

    assert run("log", "-1", "--format=%an|%ae", cwd=repo) == "A bC|a@b"


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("message", "", "INVALID_REQUEST_BODY"),
        ("author", "", "INVALID_REQUEST_BODY"),
        ("email", "", "INVALID_REQUEST_BODY"),
        ("author", None, "INVALID_REQUEST_BODY"),
        ("author", "<>", "BAD_REQUEST"),
        ("email", "<\n>", "BAD_REQUEST"),
        ("message", "a\0b", "BAD_REQUEST"),
    ],
)
def test_commit_needs_message_author_and_email(
    git: Git, repo: Path, field: str, value: str | None, code: str
) -> None:
    fields = {"message": "m", **AUTHOR, "allow_empty": True, field: value}

    assert git.fails("commit", path=repo, **fields) == (400, code)


def test_identity_comes_from_the_request_whatever_is_configured(
    git: Git, repo: Path
) -> None:
    run("config", "user.name", "Somebody Else", cwd=repo)
    run("config", "commit.gpgsign", "true", cwd=repo)
    run("config", "commit.template", "/nonexistent", cwd=repo)
    run("config", "i18n.commitEncoding", "latin1", cwd=repo)

    git.commit(repo, "ü", allow_empty=True)

    raw = run("cat-file", "commit", "HEAD", cwd=repo)
    assert "author Ada Lovelace" in raw
    assert "encoding" not in raw
    assert raw.endswith("ü")


def test_history_is_whole_and_newest_first(git: Git, repo: Path) -> None:
    message = "subject\n\nbody ü\n"
    made = git.commit(repo, message, allow_empty=True)

    newest, first = git.told("history", repo)

    assert newest["hash"] == made
    assert newest["message"] == message
    assert (newest["author"], newest["email"]) == ("Ada Lovelace", "ada@example.test")
    assert first["message"] == "first\n"


def test_history_has_the_authors_own_time(git: Git, repo: Path) -> None:
    when = "2026-06-23T15:33:38+02:00"
    run("commit", "--allow-empty", "-m", "m", f"--date={when}", cwd=repo)

    assert git.told("history", repo)[0]["timestamp"] == when


def test_history_is_told_in_parts_when_asked(git: Git, repo: Path) -> None:
    made = [git.commit(repo, f"{number}", allow_empty=True) for number in range(5)]

    some = git.told("history", repo, limit="2", skip="1")

    assert [each["hash"] for each in some] == [made[3], made[2]]
    assert git.told("history", repo, skip="100") == []


def test_history_before_the_first_commit_is_not_found(git: Git, tmp_path: Path) -> None:
    assert git.refused("history", repository(tmp_path / "repo")) == (404, "NOT_FOUND")


# -- branches and checkout -----------------------------------------------------------


def test_branches_are_sorted_and_the_current_one_told(git: Git, repo: Path) -> None:
    for name in ("zeta", "feature/x", "alpha"):
        run("branch", name, cwd=repo)

    told = git.told("branches", repo)

    assert told == {
        "branches": ["alpha", "feature/x", "main", "zeta"],
        "current": "main",
    }


def test_unborn_branch_is_current_and_not_listed(git: Git, tmp_path: Path) -> None:
    repo = repository(tmp_path / "repo")

    assert git.told("branches", repo) == {"branches": [], "current": "main"}


def test_detached_head_has_no_current_branch(git: Git, repo: Path) -> None:
    run("checkout", "--quiet", "--detach", cwd=repo)

    assert git.told("branches", repo) == {"branches": ["main"]}


def test_created_branch_is_checked_out_and_changes_come_along(
    git: Git, repo: Path
) -> None:
    fill(repo, {"a.txt": "edited"})

    answer = git.post("branches", path=repo, name="new/one")

    assert (answer.status, answer.body) == (201, b"")
    assert git.told("status", repo)["currentBranch"] == "new/one"
    assert git.files(repo) == {"a.txt": ("Unmodified", "Modified")}


def test_branch_that_exists_is_a_conflict(git: Git, repo: Path) -> None:
    assert git.fails("branches", path=repo, name="main") == (409, "GIT_BRANCH_EXISTS")
    assert git.fails("branches", path=repo, name="main/x") == (409, "CONFLICT")


@pytest.mark.parametrize(
    "name",
    ["-f", "--orphan=evil", "a..b", "a b", "x.lock", "@{-1}", "HEAD", "a~1", "/a"],
)
def test_name_that_no_branch_can_have_is_refused(
    git: Git, repo: Path, name: str
) -> None:
    assert git.fails("branches", path=repo, name=name) == (400, "BAD_REQUEST")
    answer = git.ask("DELETE", "branches", {"path": repo, "name": name})
    assert failure(answer) == (400, "BAD_REQUEST")
    assert git.told("branches", repo)["branches"] == ["main"]


def test_branch_is_deleted_merged_or_not(git: Git, repo: Path) -> None:
    run("checkout", "--quiet", "-b", "side", cwd=repo)
    commit(repo, "unmerged")
    run("checkout", "--quiet", "main", cwd=repo)

    answer = git.ask("DELETE", "branches", {"path": repo, "name": "side"})

    assert (answer.status, answer.body) == (204, b"")
    assert git.told("branches", repo)["branches"] == ["main"]


def test_current_branch_and_unknown_one_are_not_deleted(git: Git, repo: Path) -> None:
    current = git.ask("DELETE", "branches", {"path": repo, "name": "main"})
    unknown = git.ask("DELETE", "branches", {"path": repo, "name": "nope"})

    assert failure(current) == (409, "CONFLICT")
    assert failure(unknown) == (404, "GIT_BRANCH_NOT_FOUND")
    assert git.told("branches", repo)["branches"] == ["main"]


def test_checkout_of_whatever_names_a_commit(git: Git, repo: Path) -> None:
    first = head(repo)
    run("tag", "-a", "v1", "-m", "tag", cwd=repo)
    commit(repo, "second")

    for name in (first, first[:8], "v1", "HEAD~0" if head(repo) == first else "main~1"):
        git.do("checkout", path=repo, branch=name)
        assert head(repo) == first, name
        assert git.told("status", repo)["currentBranch"] == "HEAD"

    git.do("checkout", path=repo, branch="main")
    assert git.told("status", repo)["currentBranch"] == "main"


def test_branch_of_one_remote_becomes_a_local_one(
    git: Git, repo: Path, tmp_path: Path
) -> None:
    run("branch", "theirs", cwd=repo)
    clone = tmp_path / "clone"
    run("clone", "--quiet", str(repo), str(clone), cwd=tmp_path)

    git.do("checkout", path=clone, branch="theirs")

    told = git.told("status", clone)
    assert (told["currentBranch"], told["upstream"]) == ("theirs", "origin/theirs")


def test_branch_of_two_remotes_is_not_guessed(
    git: Git, repo: Path, tmp_path: Path
) -> None:
    run("branch", "theirs", cwd=repo)
    clone = tmp_path / "clone"
    run("clone", "--quiet", str(repo), str(clone), cwd=tmp_path)
    run("remote", "add", "second", str(repo), cwd=clone)
    run("fetch", "--quiet", "second", cwd=clone)

    assert git.fails("checkout", path=clone, branch="theirs") == (400, "BAD_REQUEST")


@pytest.mark.parametrize("name", ["nope", "a.txt", "dead", "feed00", "*", "main:a.txt"])
def test_unknown_name_is_not_found_and_changes_nothing(
    git: Git, repo: Path, name: str
) -> None:
    run("branch", "master", cwd=repo)
    fill(repo, {"a.txt": "edited"})

    assert git.fails("checkout", path=repo, branch=name) == (
        404,
        "GIT_BRANCH_NOT_FOUND",
    )

    assert git.told("status", repo)["currentBranch"] == "main"
    assert (repo / "a.txt").read_text() == "edited"


def test_checkout_that_would_overwrite_changes_nothing(git: Git, repo: Path) -> None:
    run("checkout", "--quiet", "-b", "side", cwd=repo)
    commit(repo, "changed", {"a.txt": "theirs\n", "fresh": "theirs"})
    run("checkout", "--quiet", "main", cwd=repo)
    before = head(repo)

    fill(repo, {"a.txt": "mine\n"})
    assert git.fails("checkout", path=repo, branch="side") == (
        409,
        "GIT_DIRTY_WORKTREE",
    )
    fill(repo, {"a.txt": "one\n", "fresh": "mine"})
    assert git.fails("checkout", path=repo, branch="side") == (
        409,
        "GIT_DIRTY_WORKTREE",
    )

    assert head(repo) == before
    assert (repo / "fresh").read_text() == "mine"
    assert git.told("status", repo)["currentBranch"] == "main"


def test_checkout_keeps_changes_that_are_not_in_the_way(git: Git, repo: Path) -> None:
    run("checkout", "--quiet", "-b", "side", cwd=repo)
    commit(repo, "changed", {"a.txt": "theirs\n"})
    run("checkout", "--quiet", "main", cwd=repo)
    fill(repo, {"src/b.txt": "mine\n"})

    git.do("checkout", path=repo, branch="side")

    assert (repo / "src/b.txt").read_text() == "mine\n"


# -- init ----------------------------------------------------------------------------


def test_init_makes_a_repository_and_its_parents(git: Git, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er"

    answer = git.post("init", path=path)

    assert (answer.status, answer.body) == (201, b"")
    assert git.told("status", path)["currentBranch"] == "main"


def test_init_takes_the_branch_asked_for_or_configured(
    git: Git, tmp_path: Path
) -> None:
    git.do("init", path=tmp_path / "asked", initial_branch="trunk")
    git.do("config", key="init.defaultBranch", value="configured")
    git.do("init", path=tmp_path / "configured", initial_branch="")
    (git.agent.home / ".gitconfig").unlink()

    assert git.told("status", tmp_path / "asked")["currentBranch"] == "trunk"
    assert git.told("status", tmp_path / "configured")["currentBranch"] == "configured"


def test_bare_init_is_bare(git: Git, tmp_path: Path) -> None:
    git.do("init", path=tmp_path / "bare", bare=True)

    assert run("rev-parse", "--is-bare-repository", cwd=tmp_path / "bare") == "true"
    assert git.fails("init", path=tmp_path / "bare") == (409, "CONFLICT")


def test_init_of_what_is_one_already_changes_nothing(git: Git, repo: Path) -> None:
    assert git.fails("init", path=repo) == (409, "CONFLICT")
    assert git.fails("init", path=repo / "a.txt") == (400, "INVALID_FILE_PATH")
    assert git.fails("init", path=repo / "x", initial_branch="-x") == (
        400,
        "BAD_REQUEST",
    )
    assert not (repo / "x").exists()


def test_init_inside_of_a_repository_makes_another(git: Git, repo: Path) -> None:
    git.do("init", path=repo / "inner")

    assert (repo / "inner/.git").is_dir()


# -- locks ---------------------------------------------------------------------------


def test_lock_of_somebody_else_is_a_conflict_and_left_alone(
    git: Git, repo: Path
) -> None:
    lock = repo / ".git/index.lock"
    lock.write_text("theirs")
    fill(repo, {"x": ""})

    answer = git.post("add", path=repo, files=["x"])

    assert failure(answer) == (409, "CONFLICT")
    assert "index.lock" in answer.json()["message"]
    assert lock.read_text() == "theirs"
    assert git.told("status", repo)["currentBranch"] == "main"


def test_changes_at_once_wait_for_one_another(git: Git, repo: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(
            pool.map(lambda n: git.commit(repo, f"{n}", allow_empty=True), range(16))
        )

    told = [each["hash"] for each in git.told("history", repo)]
    assert sorted(told[:-1]) == sorted(made)
    assert run("fsck", cwd=repo) == ""


def conflict(repo: Path) -> None:
    """Leave a merge half-way, with `a.txt` unmerged."""
    run("checkout", "--quiet", "-b", "side", cwd=repo)
    commit(repo, "theirs", {"a.txt": "theirs\n"})
    run("checkout", "--quiet", "main", cwd=repo)
    commit(repo, "ours", {"a.txt": "ours\n"})
    run("merge", "side", cwd=repo, check=False)
