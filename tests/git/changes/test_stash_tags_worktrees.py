"""Stash, tags, worktrees and fetches of real repositories."""

import json
from pathlib import Path

import pytest

from tests.git.conftest import AUTHOR, CREDENTIALS, PASSWORD, Git, failure
from tests.git.remote import Remote, commit, fill, git as run


def drop(git: Git, route: str, **body: object) -> tuple[int, str]:
    answer = git.ask("DELETE", route, body)
    return (204, "") if answer.status == 204 else failure(answer)


# -- stash ---------------------------------------------------------------------------


def test_changes_are_put_away_and_brought_back(git: Git, repo: Path) -> None:
    fill(repo, {"a.txt": "edited\n", "new": "new\n"})

    told = git.do("stash", path=repo, message="later", include_untracked=True)
    listed = git.told("stash", repo)["entries"]

    assert git.files(repo) == {}
    assert [(each["index"], each["hash"]) for each in listed] == [(0, told["hash"])]
    assert listed[0]["message"] == "On main: later"
    git.do("stash/pop", path=repo)
    assert (repo / "a.txt").read_text() == "edited\n"
    assert (repo / "new").read_text() == "new\n"
    assert git.told("stash", repo) == {"entries": []}


def test_without_changes_nothing_is_put_away(git: Git, repo: Path) -> None:
    fill(repo, {"untracked": "x"})

    assert git.do("stash", path=repo) == {}
    assert git.told("stash", repo) == {"entries": []}


def test_an_entry_is_applied_by_its_number_and_stays(git: Git, repo: Path) -> None:
    for name in ("older", "newer"):
        fill(repo, {"a.txt": f"{name}\n"})
        git.do("stash", path=repo, message=name)

    git.do("stash/apply", path=repo, index=1)

    assert (repo / "a.txt").read_text() == "older\n"
    assert len(git.told("stash", repo)["entries"]) == 2


def test_a_stash_with_conflicts_changes_nothing(git: Git, repo: Path) -> None:
    fill(repo, {"a.txt": "stashed\n", "src/b.txt": "stashed\n", "new/x": "x"})
    git.do("stash", path=repo, include_untracked=True)
    commit(repo, "in the way", {"a.txt": "committed\n"})
    fill(repo, {"staged": "staged\n", "untracked": "mine"})
    run("add", "staged", cwd=repo)
    before = git.files(repo)

    answer = git.post("stash/pop", path=repo)

    assert failure(answer) == (409, "GIT_MERGE_CONFLICT")
    assert answer.json()["conflicts"] == ["a.txt"]
    assert git.files(repo) == before
    assert (repo / "a.txt").read_text() == "committed\n"
    assert not (repo / "new").exists()
    assert len(git.told("stash", repo)["entries"]) == 1


def test_a_stash_with_conflicts_can_be_kept(git: Git, repo: Path) -> None:
    fill(repo, {"a.txt": "stashed\n"})
    git.do("stash", path=repo)
    commit(repo, "in the way", {"a.txt": "committed\n"})

    answer = git.post("stash/apply", path=repo, keep_conflicts=True)

    assert answer.json()["kept"] is True
    assert "<<<<<<<" in (repo / "a.txt").read_text()


def test_a_stash_over_local_changes_is_refused(git: Git, repo: Path) -> None:
    fill(repo, {"a.txt": "stashed\n", "new": "stashed"})
    git.do("stash", path=repo, include_untracked=True)
    fill(repo, {"a.txt": "mine\n", "new": "mine"})

    assert git.fails("stash/apply", path=repo) == (409, "GIT_DIRTY_WORKTREE")
    assert (repo / "a.txt").read_text() == "mine\n"
    assert (repo / "new").read_text() == "mine"


def test_an_entry_is_dropped(git: Git, repo: Path) -> None:
    fill(repo, {"a.txt": "x"})
    git.do("stash", path=repo)

    assert drop(git, "stash", path=repo, index=1) == (404, "NOT_FOUND")
    assert drop(git, "stash", path=repo, index=-1) == (404, "NOT_FOUND")
    assert drop(git, "stash", path=repo) == (204, "")
    assert git.fails("stash/pop", path=repo) == (404, "NOT_FOUND")


def test_before_the_first_commit_there_is_no_stash(git: Git, tmp_path: Path) -> None:
    repo = tmp_path / "empty"
    git.do("init", path=repo)

    assert git.fails("stash", path=repo) == (404, "NOT_FOUND")
    assert git.told("stash", repo) == {"entries": []}


# -- tags ----------------------------------------------------------------------------


def test_tags_are_made_listed_and_deleted(git: Git, repo: Path) -> None:
    first = run("rev-parse", "HEAD", cwd=repo)
    git.do("tags", path=repo, name="light")
    git.do(
        "tags", path=repo, name="v1/full", message="a\n\n# kept\n", revision=first,
        **AUTHOR,
    )  # fmt: skip

    light, full = git.told("tags", repo)["tags"]

    assert light == {"name": "light", "hash": first, "annotated": False}
    assert (full["name"], full["hash"], full["annotated"]) == ("v1/full", first, True)
    assert full["message"] == "a\n\n# kept\n"
    assert full["tagger"] == AUTHOR["author"]
    assert full["email"] == AUTHOR["email"]
    assert full["timestamp"][10] == "T"
    assert drop(git, "tags", path=repo, name="light") == (204, "")
    assert [each["name"] for each in git.told("tags", repo)["tags"]] == ["v1/full"]
    assert drop(git, "tags", path=repo, name="light") == (404, "NOT_FOUND")


def test_a_tag_is_moved_only_by_force(git: Git, repo: Path) -> None:
    git.do("tags", path=repo, name="t")
    second = commit(repo, "second", {"x": "x"})

    assert git.fails("tags", path=repo, name="t") == (409, "CONFLICT")
    git.do("tags", path=repo, name="t", force=True)

    assert git.told("tags", repo)["tags"][0]["hash"] == second


@pytest.mark.parametrize("name", ["-d", "", "a..b", "x.lock", "a b", "/x", "@{1}"])
def test_a_tag_has_a_name_that_git_takes(git: Git, repo: Path, name: str) -> None:
    assert git.fails("tags", path=repo, name=name)[0] == 400
    assert drop(git, "tags", path=repo, name=name)[0] == 400


def test_a_tag_leads_somewhere(git: Git, repo: Path) -> None:
    unknown = {"path": repo, "name": "t", "revision": "nope"}

    assert git.fails("tags", **unknown) == (404, "NOT_FOUND")
    assert git.fails("tags", path=repo, name="t", revision="--all")[0] == 400
    assert git.fails("tags", path=repo, name="t", message="m") == (400, "BAD_REQUEST")


# -- worktrees -----------------------------------------------------------------------


def test_worktrees_are_added_listed_and_removed(git: Git, repo: Path) -> None:
    first = run("rev-parse", "HEAD", cwd=repo)
    places = [repo.parent / name for name in ("detached", "of a new branch", "topic")]
    run("branch", "topic", cwd=repo)
    git.do("worktrees", path=repo, worktree=places[0], revision="HEAD")
    git.do("worktrees", path=repo, worktree=places[1], new_branch="fresh")
    git.do("worktrees", path=repo, worktree=places[2], branch="topic")

    told = git.told("worktrees", repo)["worktrees"]

    assert [each["path"] for each in told] == [str(repo), *map(str, places)]
    assert [each.get("branch") for each in told] == ["main", None, "fresh", "topic"]
    assert [each["detached"] for each in told] == [False, True, False, False]
    assert {each["hash"] for each in told} == {first}
    # It is a repository of its own to every other route.
    fill(places[2], {"a.txt": "x"})
    assert git.told("status", places[2])["currentBranch"] == "topic"
    gone = {"path": repo, "worktree": str(places[2])}
    assert drop(git, "worktrees", **gone) == (409, "GIT_DIRTY_WORKTREE")
    assert drop(git, "worktrees", **gone, force=True) == (204, "")
    assert not places[2].exists()
    assert drop(git, "worktrees", **gone) == (404, "NOT_FOUND")


def test_a_worktree_wants_a_free_place_and_a_free_branch(
    git: Git, repo: Path, tmp_path: Path
) -> None:
    fill(tmp_path, {"taken/x": "x"})
    free = str(tmp_path / "free")

    def fails(**fields: object) -> tuple[int, str]:
        return git.fails("worktrees", **{"path": repo, "worktree": free, **fields})

    assert fails(worktree=str(tmp_path / "taken"))[0] == 409
    assert fails(branch="main")[0] == 409
    assert fails(branch="nope") == (404, "GIT_BRANCH_NOT_FOUND")
    assert fails(new_branch="main") == (409, "GIT_BRANCH_EXISTS")
    assert fails(revision="nope") == (404, "NOT_FOUND")
    assert fails(branch="main", new_branch="x")[0] == 400
    assert fails(new_branch="--force")[0] == 400
    assert fails(worktree="")[0] == 400
    assert not Path(free).exists()
    assert len(git.told("worktrees", repo)["worktrees"]) == 1


def test_the_repositorys_own_worktree_is_not_removed(git: Git, repo: Path) -> None:
    told = drop(git, "worktrees", path=str(repo), worktree=str(repo), force=True)

    assert told == (409, "CONFLICT")
    assert (repo / "a.txt").exists()


def test_a_worktree_that_is_removed_runs_nothing(git: Git, repo: Path) -> None:
    place = repo.parent / "linked"
    git.do("worktrees", path=repo, worktree=place, new_branch="linked")
    run("config", "extensions.worktreeConfig", "true", cwd=repo)
    for key in ("filter.evil.clean", "core.fsmonitor"):
        run("config", "--worktree", key, f"touch {repo}/ran", cwd=place)
    fill(place, {".gitattributes": "* filter=evil\n", "a.txt": "x"})

    drop(git, "worktrees", path=str(repo), worktree=str(place))

    assert not (repo / "ran").exists()


# -- fetch ---------------------------------------------------------------------------


def test_a_fetch_tells_what_it_changed(git: Git, remote: Remote, repo: Path) -> None:
    tip = remote.create("project", {"a": "1"})
    run("remote", "add", "origin", remote.url("project"), cwd=repo)

    first = git.do("fetch", path=repo)
    again = git.do("fetch", path=repo)

    assert first == {
        "updates": [{"ref": "refs/remotes/origin/main", "newHash": tip}],
        "updatesCount": 1,
    }
    assert again == {"updates": [], "updatesCount": 0}
    assert run("rev-parse", "origin/main", cwd=repo) == tip


def test_a_fetch_brings_one_branch_and_prunes(
    git: Git, remote: Remote, repo: Path
) -> None:
    remote.create("project", {"a": "1"})
    source = remote.bare("project")
    for name in ("one", "two"):
        run("branch", name, "main", cwd=source)
    run("remote", "add", "origin", remote.url("project"), cwd=repo)

    told = git.do("fetch", path=repo, branch="one")
    assert [each["ref"] for each in told["updates"]] == ["refs/remotes/origin/one"]
    run("branch", "-D", "one", cwd=source)
    told = git.do("fetch", path=repo, prune=True)

    assert [(each["ref"][20:], "newHash" in each) for each in told["updates"]] == [
        ("main", True),
        ("one", False),
        ("two", True),
    ]
    missing = {"path": repo, "branch": "nope"}
    assert git.fails("fetch", **missing) == (404, "GIT_BRANCH_NOT_FOUND")


def test_a_fetch_shows_its_credentials_to_the_remote_alone(
    git: Git, guarded: Remote, repo: Path
) -> None:
    guarded.create("project", {"a": "1"})
    run("remote", "add", "origin", guarded.url("project"), cwd=repo)

    assert git.fails("fetch", path=repo) == (401, "GIT_AUTH_FAILED")
    assert git.do("fetch", path=repo, **CREDENTIALS)["updatesCount"] == 1

    for path in (repo / ".git").rglob("*"):
        if path.is_file():
            assert PASSWORD.encode() not in path.read_bytes()
    assert PASSWORD not in git.agent.log()


def test_a_fetch_tells_its_progress_by_events(
    git: Git, remote: Remote, repo: Path
) -> None:
    remote.create("project", {f"f{each}": "x" * each for each in range(50)})
    run("remote", "add", "origin", remote.url("project"), cwd=repo)
    headers = {"Accept": "text/event-stream"}

    told = git.ask("POST", "fetch", {"path": repo}, headers=headers)

    events = [block.split(b"\n") for block in told.body.split(b"\n\n") if block]
    kinds = [line for block in events for line in block if line.startswith(b"event:")]
    assert kinds[-1] == b"event: done"
    assert kinds[0] == b"event: progress"
    assert data_of(events[0])["phase"]
    assert data_of(events[-1]) == {
        "updates": [
            {
                "ref": "refs/remotes/origin/main",
                "newHash": run("rev-parse", "refs/remotes/origin/main", cwd=repo),
            }
        ],
        "updatesCount": 1,
    }


def data_of(event: list[bytes]) -> dict[str, object]:
    data = next(line for line in event if line.startswith(b"data:"))
    found: dict[str, object] = json.loads(data[5:])
    return found


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({}, 404),
        ({"remote": "--upload-pack=touch x"}, 400),
        ({"remote": "ext::sh -c true"}, 400),
        ({"remote": "origin", "branch": "--all"}, 400),
        ({"depth": 0}, 400),
    ],
)
def test_a_fetch_that_makes_no_sense_is_refused(
    git: Git, repo: Path, fields: dict[str, object], status: int
) -> None:
    assert git.fails("fetch", path=repo, **fields)[0] == status


@pytest.mark.parametrize(
    "route", ["merge", "rebase", "cherry-pick", "stash", "stash/pop", "fetch"]
)
def test_a_directory_without_a_repository_is_told(
    git: Git, tmp_path: Path, route: str
) -> None:
    fields: dict[str, object] = {"name": "x", "worktree": "y", "path": tmp_path}

    assert git.fails(route, **fields) == (404, "GIT_REPO_NOT_FOUND")
