"""Merge, rebase and cherry-pick in real repositories."""

from pathlib import Path

import pytest

from tests.git.checkpoints.conftest import picture
from tests.git.conftest import AUTHOR, Git, failure
from tests.git.remote import commit, fill, git as run


@pytest.fixture
def forked(repo: Path) -> Path:
    """Return a repository whose branch `other` has diverged; `clash` is in its way."""
    run("checkout", "-q", "-b", "other", cwd=repo)
    commit(repo, "theirs", {"theirs.txt": "theirs\n"})
    run("checkout", "-q", "-b", "clash", "main", cwd=repo)
    commit(repo, "clashing", {"a.txt": "clash\n", "clash.txt": "x\n"})
    run("checkout", "-q", "main", cwd=repo)
    commit(repo, "ours", {"a.txt": "ours\n", "ours.txt": "ours\n"})
    return repo


def head(repo: Path) -> str:
    return run("rev-parse", "HEAD", cwd=repo)


def whole(repo: Path) -> tuple[object, ...]:
    """Return what a change that failed must leave as it was."""
    files = {
        name: what
        for name, what in picture(repo).items()
        if not name.startswith(b".git")
    }
    status = run("status", "--porcelain=v2", "--branch", cwd=repo)
    marks = [each.name for each in (repo / ".git").glob("*_HEAD")]
    marks += [each.name for each in (repo / ".git").glob("rebase-*")]
    return files, status, sorted(set(marks) - {"ORIG_HEAD", "FETCH_HEAD"})


def test_a_merge_has_two_parents_and_the_callers_name(git: Git, forked: Path) -> None:
    ours = head(forked)

    told = git.do("merge", path=forked, revision="other", **AUTHOR)

    assert told == {"hash": head(forked), "changed": True}
    parents, message, name = run(
        "show", "-s", "--format=%P%x00%s%x00%cn", cwd=forked
    ).split("\0")
    assert parents == f"{ours} {run('rev-parse', 'other', cwd=forked)}"
    assert message == "Merge branch 'other'"
    assert name == AUTHOR["author"]


def test_a_fast_forward_is_made_or_not_as_asked(git: Git, forked: Path) -> None:
    run("reset", "-q", "--hard", "other~1", cwd=forked)
    only = {"path": forked, "revision": "other", "fast_forward": "only"}
    never = {"path": forked, "revision": "clash", "fast_forward": "only"}

    assert git.do("merge", **only)["hash"] == run("rev-parse", "other", cwd=forked)
    assert git.do("merge", **only)["changed"] is False
    assert git.fails("merge", **never) == (409, "GIT_MERGE_CONFLICT")


def test_a_squash_leaves_the_changes_staged(git: Git, forked: Path) -> None:
    before = head(forked)

    told = git.do("merge", path=forked, revision="other", squash=True)

    assert told == {"hash": before, "changed": False}
    assert git.files(forked) == {"theirs.txt": ("Added", "Unmodified")}


@pytest.mark.parametrize(
    ("route", "fields"),
    [
        ("merge", {"revision": "clash"}),
        ("merge", {"revision": "clash", "squash": True}),
        ("rebase", {"upstream": "clash"}),
        ("cherry-pick", {"revisions": ["other", "clash"]}),
        ("cherry-pick", {"revisions": ["clash"], "no_commit": True}),
    ],
)
def test_a_conflict_changes_nothing_and_names_the_files(
    git: Git, forked: Path, route: str, fields: dict[str, object]
) -> None:
    if route != "rebase":
        fill(forked, {"src/b.txt": "not committed\n"})
    fill(forked, {"untracked": "mine\n"})
    before = whole(forked)

    answer = git.post(route, path=forked, **fields, **AUTHOR)

    assert failure(answer) == (409, "GIT_MERGE_CONFLICT")
    assert answer.json()["conflicts"] == ["a.txt"]
    assert answer.json()["kept"] is False
    assert whole(forked) == before


@pytest.mark.parametrize(
    ("route", "fields"),
    [
        ("merge", {"revision": "clash"}),
        ("rebase", {"upstream": "clash"}),
        ("cherry-pick", {"revisions": ["clash"]}),
    ],
)
def test_a_conflict_that_is_kept_can_be_resolved(
    git: Git, forked: Path, route: str, fields: dict[str, object]
) -> None:
    kept = git.post(route, path=forked, keep_conflicts=True, **fields, **AUTHOR)
    assert kept.json()["kept"] is True
    assert git.files(forked)["a.txt"] == ("Updated but unmerged",) * 2
    # Nothing else begins meanwhile, and without a resolution it does not go on.
    assert git.fails(route, path=forked, **fields, **AUTHOR)[0] == 409
    stuck = git.post(route, path=forked, step="continue", **AUTHOR)
    assert stuck.json()["conflicts"] == ["a.txt"]
    fill(forked, {"a.txt": "resolved\n"})
    git.do("add", path=forked, files=["a.txt"])

    told = git.do(route, path=forked, step="continue", **AUTHOR)

    assert told["hash"] == head(forked)
    assert git.files(forked) == {}
    assert (forked / "a.txt").read_text() == "resolved\n"
    assert (forked / "clash.txt").exists()


@pytest.mark.parametrize(
    ("route", "fields"),
    [
        ("merge", {"revision": "clash"}),
        ("rebase", {"upstream": "clash"}),
        ("cherry-pick", {"revisions": ["clash"]}),
    ],
)
def test_a_conflict_that_is_kept_can_be_given_up(
    git: Git, forked: Path, route: str, fields: dict[str, object]
) -> None:
    before = whole(forked)
    git.post(route, path=forked, keep_conflicts=True, **fields, **AUTHOR)

    git.do(route, path=forked, step="abort")

    assert whole(forked) == before
    assert git.fails(route, path=forked, step="abort")[0] == 409


def test_a_rebase_moves_the_branch_and_keeps_the_authors(
    git: Git, forked: Path
) -> None:
    told = git.do("rebase", path=forked, upstream="other", **AUTHOR)

    assert told["changed"] is True
    shown = run("log", "-2", "--format=%s %an %cn", cwd=forked).splitlines()
    assert shown == ["ours Setup Ada Lovelace", "theirs Setup Setup"]
    assert run("branch", "--show-current", cwd=forked) == "main"


def test_a_rebase_can_put_some_commits_elsewhere(git: Git, forked: Path) -> None:
    commit(forked, "one more", {"more": "x"})

    git.do("rebase", path=forked, upstream="HEAD~1", onto="other", **AUTHOR)

    assert run("log", "--format=%s", cwd=forked).splitlines() == [
        "one more",
        "theirs",
        "first",
    ]


def test_commits_are_picked_in_their_order(git: Git, forked: Path) -> None:
    run("checkout", "-q", "other", cwd=forked)
    last = commit(forked, "last", {"last": "x"})
    run("checkout", "-q", "main", cwd=forked)

    git.do("cherry-pick", path=forked, revisions=["other~1", last], **AUTHOR)

    assert run("log", "-2", "--format=%s %an", cwd=forked).splitlines() == [
        "last Setup",
        "theirs Setup",
    ]


def test_a_merge_is_picked_by_its_mainline(git: Git, forked: Path) -> None:
    git.do("merge", path=forked, revision="other", **AUTHOR)
    merged = head(forked)
    run("checkout", "-q", "clash", cwd=forked)
    pick = {"path": forked, "revisions": [merged], **AUTHOR}

    assert git.fails("cherry-pick", **pick)[0] in {400, 409, 500}
    git.do("cherry-pick", **pick, mainline=1)

    assert (forked / "theirs.txt").exists()
    assert not (forked / "ours.txt").exists()


def test_what_is_picked_without_a_commit_is_staged(git: Git, forked: Path) -> None:
    before = head(forked)

    git.do("cherry-pick", path=forked, revisions=["other"], no_commit=True)

    assert head(forked) == before
    assert git.files(forked) == {"theirs.txt": ("Added", "Unmodified")}


def test_local_changes_in_the_way_are_told(git: Git, forked: Path) -> None:
    fill(forked, {"theirs.txt": "mine\n", "src/b.txt": "edited\n"})
    before = whole(forked)

    merge = git.fails("merge", path=forked, revision="other", **AUTHOR)
    rebase = git.fails("rebase", path=forked, upstream="other", **AUTHOR)
    run("add", "src/b.txt", cwd=forked)
    pick = {"path": forked, "revisions": ["clash"], "no_commit": True}

    assert merge == (409, "GIT_DIRTY_WORKTREE")
    assert rebase[0] == 409
    assert git.fails("cherry-pick", **pick) == (409, "GIT_DIRTY_WORKTREE")
    run("reset", "-q", cwd=forked)
    assert whole(forked) == before


def test_nobody_is_made_up_to_commit(git: Git, forked: Path) -> None:
    before = whole(forked)
    half = {"path": forked, "revision": "other", "author": "Ada"}

    assert git.fails("merge", path=forked, revision="other") == (400, "BAD_REQUEST")
    assert git.fails("cherry-pick", path=forked, revisions=["other"])[0] == 400
    assert git.fails("rebase", path=forked, upstream="other")[0] == 400
    assert git.fails("merge", **half)[0] == 400
    assert whole(forked) == before


@pytest.mark.parametrize("name", ["--abort", "-s ours", "nope", "", "a\nb", "HEAD^9"])
def test_a_revision_is_never_an_option(git: Git, forked: Path, name: str) -> None:
    before = whole(forked)

    for route, fields in (
        ("merge", {"revision": name}),
        ("rebase", {"upstream": name}),
        ("rebase", {"upstream": "other", "onto": name}),
        ("cherry-pick", {"revisions": [name]}),
    ):
        status, _ = git.fails(route, path=forked, **fields, **AUTHOR)
        assert status in {400, 404}, (route, fields)

    assert whole(forked) == before


@pytest.mark.parametrize(
    ("route", "fields"),
    [
        ("cherry-pick", {"revisions": []}),
        ("cherry-pick", {"revisions": ["other"], "mainline": 0}),
        ("merge", {"revision": "other", "squash": True, "fast_forward": "never"}),
        ("merge", {"revision": "other", "fast_forward": "perhaps"}),
        ("merge", {"revision": "other", "step": "skip"}),
        ("merge", {"revision": "other", "message": "a\0b"}),
        ("merge", {"revision": "other", "message": "x" * 70_000}),
    ],
)
def test_what_makes_no_sense_is_refused(
    git: Git, forked: Path, route: str, fields: dict[str, object]
) -> None:
    assert git.fails(route, path=forked, **fields, **AUTHOR)[0] == 400


def test_nothing_of_the_repository_runs(git: Git, forked: Path) -> None:
    ran = f"touch {forked}/ran"
    fill(forked, {".git/info/attributes": "* filter=evil merge=evil\n"})
    for key in (
        *("filter.evil.clean", "filter.evil.smudge", "merge.evil.driver"),
        *("core.editor", "sequence.editor", "core.fsmonitor", "gpg.program"),
    ):
        run("config", key, ran, cwd=forked)
    run("config", "commit.gpgSign", "true", cwd=forked)
    run("config", "branch.main.mergeOptions", "-s ours", cwd=forked)
    for hook in ("pre-merge-commit", "post-merge", "pre-rebase", "post-checkout"):
        path = forked / ".git/hooks" / hook
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{ran}\nexit 1\n")
        path.chmod(0o755)

    git.do("cherry-pick", path=forked, revisions=["other"], **AUTHOR)
    git.do("rebase", path=forked, upstream="other", **AUTHOR)
    git.post("merge", path=forked, revision="clash", **AUTHOR)

    assert not (forked / "ran").exists()
    assert (forked / "theirs.txt").exists()


def test_names_of_a_body_may_be_in_camel_case(git: Git, forked: Path) -> None:
    answer = git.post(
        "merge", path=forked, revision="clash", keepConflicts=True, **AUTHOR
    )

    assert answer.json()["kept"] is True
    assert (forked / ".git/MERGE_HEAD").exists()


def test_published_bodies_may_be_in_camel_case_too(git: Git, tmp_path: Path) -> None:
    git.do("init", path=tmp_path / "new", initialBranch="trunk")

    assert git.told("status", tmp_path / "new")["currentBranch"] == "trunk"
