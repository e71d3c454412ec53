"""Remotes: clone, pull, push, over a real HTTP server."""

import json
import socket
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.git.conftest import CREDENTIALS, PASSWORD, USER, Git, failure
from tests.git.remote import Remote, commit, fill, git as run, repository, serving
from tests.git.test_local import head


def cloned(git: Git, remote: Remote, path: Path, name: str = "project") -> Path:
    """Clone a repository of the server through the agent."""
    git.do("clone", url=remote.url(name), path=path)
    return path


# -- clone ---------------------------------------------------------------------------


def test_clone_has_one_branch_all_tags_and_its_upstream(
    git: Git, remote: Remote, tmp_path: Path
) -> None:
    remote.create("project", {"a.txt": "one"})
    remote.commit("project", "other", {"b.txt": "x"}, branch="other")
    run("tag", "elsewhere", "other", cwd=remote.bare("project"))
    path = tmp_path / "deep" / "clone"

    answer = git.post("clone", url=remote.url("project"), path=path)

    assert (answer.status, answer.body) == (200, b"")
    assert (path / "a.txt").read_text() == "one"
    assert run("branch", "-r", cwd=path).split() == [
        "origin/HEAD",
        "->",
        "origin/main",
        "origin/main",
    ]
    assert run("tag", cwd=path) == "elsewhere"
    assert git.told("status", path)["upstream"] == "origin/main"
    assert git.told("remotes", path) == {
        "remotes": [{"name": "origin", "url": remote.url("project")}]
    }


def test_clone_of_a_branch_a_tag_and_a_depth(
    git: Git, remote: Remote, tmp_path: Path
) -> None:
    remote.create("project", {"a.txt": "one"})
    remote.commit("project", "other", {"b.txt": "x"}, branch="trunk")
    run("tag", "v1", "main", cwd=remote.bare("project"))
    url = remote.url("project")

    git.do("clone", url=url, path=tmp_path / "branch", branch="trunk")
    git.do("clone", url=url, path=tmp_path / "tag", branch="v1")
    git.do("clone", url=url, path=tmp_path / "shallow", branch="trunk", depth=1)

    assert git.told("status", tmp_path / "branch")["currentBranch"] == "trunk"
    assert git.told("status", tmp_path / "tag")["currentBranch"] == "HEAD"
    assert len(git.told("history", tmp_path / "shallow")) == 1


def test_clone_of_a_commit_is_detached_there(
    git: Git, remote: Remote, tmp_path: Path
) -> None:
    first = remote.create("project", {"a.txt": "one"})
    remote.commit("project", "second", {"a.txt": "two"})
    elsewhere = remote.commit("project", "other", {"b.txt": "x"}, branch="other")
    url = remote.url("project")

    for number, wanted in enumerate((first, first[:10], elsewhere)):
        path = tmp_path / f"clone-{number}"
        git.do("clone", url=url, path=path, commit_id=wanted)
        assert head(path).startswith(wanted)
        assert git.told("status", path)["detached"] is True
        assert git.files(path) == {}


def test_clone_of_a_missing_commit_leaves_nothing(
    git: Git, remote: Remote, tmp_path: Path
) -> None:
    remote.create("project", {"a.txt": "one"})
    path = tmp_path / "a" / "b"

    for wanted in ("f" * 40, "abcdef12"):
        body = {"url": remote.url("project"), "path": path, "commit_id": wanted}
        assert git.fails("clone", **body) == (404, "NOT_FOUND")
        assert not (tmp_path / "a").exists()


def test_failed_clone_leaves_an_empty_directory_empty(
    git: Git, remote: Remote, tmp_path: Path
) -> None:
    remote.create("project", {"a.txt": "one"})
    path = tmp_path / "there"
    path.mkdir()

    for fields in ({"commit_id": "f" * 40}, {"branch": "nope"}):
        git.fails("clone", url=remote.url("project"), path=path, **fields)
        assert list(path.iterdir()) == []


def test_clone_of_an_empty_repository_has_an_unborn_branch(
    git: Git, remote: Remote, tmp_path: Path
) -> None:
    remote.create("project")

    path = cloned(git, remote, tmp_path / "clone")

    assert git.told("status", path)["fileStatus"] == []


def test_clone_into_something_changes_nothing(
    git: Git, remote: Remote, repo: Path, tmp_path: Path
) -> None:
    remote.create("project", {"a.txt": "theirs"})
    fill(tmp_path / "full", {"mine": "x"})
    url = remote.url("project")

    assert git.fails("clone", url=url, path=repo) == (409, "CONFLICT")
    assert git.fails("clone", url=url, path=tmp_path / "full") == (409, "CONFLICT")
    assert git.fails("clone", url=url, path=repo / "a.txt")[0] == 400
    assert [each.name for each in (tmp_path / "full").iterdir()] == ["mine"]
    assert (repo / "a.txt").read_text() == "one\n"


def test_missing_branch_and_repository_are_told_apart(
    git: Git, remote: Remote, tmp_path: Path
) -> None:
    remote.create("project", {"a.txt": "one"})
    path = tmp_path / "clone"

    branch = git.fails("clone", url=remote.url("project"), path=path, branch="nope")
    nothing = git.fails("clone", url=remote.url("none"), path=path)
    local = git.fails("clone", url=str(tmp_path / "none"), path=path)

    assert branch == (404, "GIT_BRANCH_NOT_FOUND")
    assert nothing == (404, "GIT_REPO_NOT_FOUND")
    assert local[0] in {400, 404, 502}
    assert not path.exists()


def test_bad_words_of_a_clone_are_refused(git: Git, tmp_path: Path) -> None:
    url = f"file://{tmp_path}/x"
    for fields in (
        {"url": url, "depth": -1},
        {"url": url, "commit_id": "--orphan"},
        {"url": url, "commit_id": "HEAD"},
        {"url": url, "branch": "--upload-pack=touch"},
        {"url": "--upload-pack=touch x"},
        {"url": "ssh://-oProxyCommand=touch/x"},
        {"url": "-oProxyCommand=x:y"},
        {"url": "ext::sh -c touch% x"},
        {"url": "fd::17"},
        {"url": "gopher://x/y"},
    ):
        found = git.fails("clone", path=tmp_path / "clone", **fields)
        assert found == (400, "BAD_REQUEST"), fields
    assert list(tmp_path.iterdir()) == []


def test_local_path_and_file_address_are_cloned(
    git: Git, repo: Path, tmp_path: Path
) -> None:
    git.do("clone", url=str(repo), path=tmp_path / "by-path")
    git.do("clone", url=f"file://{repo}", path=tmp_path / "by-url", depth=1)

    assert head(tmp_path / "by-path") == head(tmp_path / "by-url") == head(repo)


def test_server_that_cannot_be_reached_is_a_transport_failure(
    git: Git, remote: Remote, tmp_path: Path
) -> None:
    def broken(handler: BaseHTTPRequestHandler) -> bool:
        handler.connection.shutdown(socket.SHUT_RDWR)
        handler.close_connection = True
        return True

    closed = f"http://127.0.0.1:{free_port()}/x.git"
    remote.before = broken

    for url in (closed, remote.url("project")):
        found = git.fails("clone", url=url, path=tmp_path / "clone")
        assert found == (502, "GIT_TRANSPORT_FAILED"), url


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
    return port


# -- progress ------------------------------------------------------------------------


def events(text: bytes) -> list[tuple[str, dict[str, object]]]:
    """Return the events of a stream: kind and data."""
    found = []
    for block in text.decode().split("\n\n"):
        fields = dict(
            line.split(": ", 1) for line in block.splitlines() if line[:1] != ":"
        )
        if fields:
            found.append((fields["event"], json.loads(fields["data"])))
    return found


def test_clone_tells_its_progress_to_whoever_asks(
    git: Git, remote: Remote, tmp_path: Path
) -> None:
    remote.create("project", {f"{number}": "x" * number for number in range(300)})
    body = {"url": remote.url("project"), "path": tmp_path / "clone"}

    answer = git.ask("POST", "clone", body, headers={"Accept": "text/event-stream"})

    assert answer.headers["Content-Type"].startswith("text/event-stream")
    told = events(answer.body)
    assert told[-1] == ("done", {})
    receiving = [
        data for kind, data in told if data.get("phase") == "Receiving objects"
    ]
    assert receiving[-1]["percent"] == 100
    assert receiving[-1]["done"] == receiving[-1]["total"]
    assert {kind for kind, _ in told[:-1]} == {"progress"}


def test_failure_of_a_clone_is_its_last_event(
    git: Git, guarded: Remote, tmp_path: Path
) -> None:
    guarded.create("project", {"a": "x"})
    body = {"url": guarded.url("project"), "path": tmp_path / "clone"}

    answer = git.ask("POST", "clone", body, headers={"Accept": "text/event-stream"})

    kind, data = events(answer.body)[-1]
    assert (kind, data["statusCode"], data["code"]) == ("error", 401, "GIT_AUTH_FAILED")
    assert not (tmp_path / "clone").exists()


def test_bad_clone_is_an_ordinary_failure_to_whoever_asks_for_events(
    git: Git, repo: Path
) -> None:
    body = {"url": "https://x.invalid/y", "path": repo}

    answer = git.ask("POST", "clone", body, headers={"Accept": "text/event-stream"})

    assert failure(answer) == (409, "CONFLICT")


# -- credentials at the door ---------------------------------------------------------


def test_right_credentials_open_and_wrong_ones_do_not(
    git: Git, guarded: Remote, tmp_path: Path
) -> None:
    guarded.create("project", {"a": "x"})
    url, path = guarded.url("project"), tmp_path / "clone"

    none = git.fails("clone", url=url, path=path)
    half = git.fails("clone", url=url, path=path, username=USER)
    wrong = git.fails("clone", url=url, path=path, username=USER, password="wrong")
    git.do("clone", url=url, path=path, **CREDENTIALS)

    assert none == half == wrong == (401, "GIT_AUTH_FAILED")
    assert (path / "a").read_text() == "x"
    config = (path / ".git/config").read_text()
    assert PASSWORD not in config
    assert USER not in config


def test_server_that_forbids_is_told_as_such(
    git: Git, remote: Remote, tmp_path: Path
) -> None:
    def forbid(handler: BaseHTTPRequestHandler) -> bool:
        handler.send_response(403)
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return True

    remote.before = forbid

    found = git.fails("clone", url=remote.url("x"), path=tmp_path / "c", **CREDENTIALS)

    assert found == (403, "FORBIDDEN")


def test_password_in_an_address_is_used_and_not_kept(
    git: Git, guarded: Remote, tmp_path: Path
) -> None:
    guarded.create("project", {"a": "x"})
    user_info = f"{USER}:{quote(PASSWORD, safe='')}"
    url = guarded.url("project").replace("://", f"://{user_info}@")

    git.do("clone", url=url, path=tmp_path / "clone")

    config = (tmp_path / "clone/.git/config").read_text()
    assert f"url = http://{USER}@127.0.0.1" in config
    assert quote(PASSWORD, safe="") not in config


def test_certificate_that_signs_itself_is_refused_unless_asked(
    git: Git, tmp_path: Path
) -> None:
    with serving(
        tmp_path / "served",
        users={USER: PASSWORD},
        tls=tmp_path / "tls",
        host="localhost",
    ) as remote:
        remote.create("project", {"a": "x"})
        body = {"url": remote.url("project"), "path": tmp_path / "c", **CREDENTIALS}

        refused = git.fails("clone", **body)
        shown = list(remote.seen)
        git.do("clone", **body, insecure_skip_tls=True)
        later = git.fails("pull", path=tmp_path / "c", **CREDENTIALS)

    assert refused == later == (502, "GIT_TRANSPORT_FAILED")
    assert shown == []
    assert (tmp_path / "c/a").read_text() == "x"


# -- pull ----------------------------------------------------------------------------


def test_pull_brings_the_branch_forward(
    git: Git, remote: Remote, tmp_path: Path
) -> None:
    remote.create("project", {"a.txt": "one"})
    path = cloned(git, remote, tmp_path / "clone")
    made = remote.commit("project", "second", {"a.txt": "two"})

    answer = git.post("pull", path=path)
    again = git.post("pull", path=path)

    assert (answer.status, answer.body, again.status) == (200, b"", 200)
    assert head(path) == made
    assert (path / "a.txt").read_text() == "two"
    assert git.told("status", path)["behind"] == 0


def test_pull_follows_the_upstream_and_not_the_default_branch(
    git: Git, remote: Remote, tmp_path: Path
) -> None:
    remote.create("project", {"a.txt": "one"})
    remote.commit("project", "trunk", {"t": "1"}, branch="trunk")
    git.do("clone", url=remote.url("project"), path=tmp_path / "c", branch="trunk")
    run("branch", "-m", "mine", cwd=tmp_path / "c")
    remote.commit("project", "main moves", {"a.txt": "two"})
    made = remote.commit("project", "trunk moves", {"t": "2"}, branch="trunk")

    git.do("pull", path=tmp_path / "c")

    assert head(tmp_path / "c") == made


def test_pull_of_a_named_branch_and_remote(
    git: Git, remote: Remote, tmp_path: Path
) -> None:
    remote.create("project", {"a.txt": "one"})
    path = cloned(git, remote, tmp_path / "clone")
    made = remote.commit("project", "ahead", {"x": ""}, branch="next")
    run("remote", "add", "second", remote.url("project"), cwd=path)

    missing = git.fails("pull", path=path, branch="nope")
    unknown = git.fails("pull", path=path, remote="nobody")
    git.do("pull", path=path, remote="second", branch="next")

    assert missing == (404, "GIT_BRANCH_NOT_FOUND")
    assert unknown == (404, "NOT_FOUND")
    assert head(path) == made
    assert git.told("status", path)["currentBranch"] == "main"


def test_pull_into_an_unborn_branch_fills_it(
    git: Git, remote: Remote, tmp_path: Path
) -> None:
    made = remote.create("project", {"a.txt": "one"})
    path = repository(tmp_path / "repo")
    run("remote", "add", "origin", remote.url("project"), cwd=path)

    git.do("pull", path=path)

    assert head(path) == made


def test_diverged_pull_changes_nothing(
    git: Git, remote: Remote, tmp_path: Path
) -> None:
    remote.create("project", {"a.txt": "one"})
    path = cloned(git, remote, tmp_path / "clone")
    remote.commit("project", "theirs", {"a.txt": "theirs"})
    ours = commit(path, "ours", {"a.txt": "ours"})
    for key, value in (
        ("pull.rebase", "true"),
        ("branch.main.mergeoptions", "--no-ff"),
    ):
        run("config", key, value, cwd=path)

    assert git.fails("pull", path=path) == (409, "GIT_MERGE_CONFLICT")

    assert head(path) == ours
    assert git.files(path) == {}


def test_pull_that_would_overwrite_changes_nothing(
    git: Git, remote: Remote, tmp_path: Path
) -> None:
    first = remote.create("project", {"a.txt": "one", "b.txt": "one"})
    path = cloned(git, remote, tmp_path / "clone")
    remote.commit("project", "theirs", {"a.txt": "theirs", "new": "theirs"})

    fill(path, {"a.txt": "mine"})
    assert git.fails("pull", path=path) == (409, "GIT_DIRTY_WORKTREE")
    fill(path, {"a.txt": "one", "new": "mine"})
    assert git.fails("pull", path=path) == (409, "GIT_DIRTY_WORKTREE")

    assert head(path) == first
    assert (path / "new").read_text() == "mine"


def test_pull_keeps_changes_that_are_not_in_the_way(
    git: Git, remote: Remote, tmp_path: Path
) -> None:
    remote.create("project", {"a.txt": "one", "b.txt": "one"})
    path = cloned(git, remote, tmp_path / "clone")
    made = remote.commit("project", "theirs", {"a.txt": "theirs"})
    fill(path, {"b.txt": "mine"})

    git.do("pull", path=path)

    assert head(path) == made
    assert (path / "b.txt").read_text() == "mine"


def test_pull_on_a_detached_head_is_refused(
    git: Git, remote: Remote, tmp_path: Path
) -> None:
    remote.create("project", {"a.txt": "one"})
    path = cloned(git, remote, tmp_path / "clone")
    run("checkout", "--quiet", "--detach", cwd=path)

    assert git.fails("pull", path=path) == (404, "NOT_FOUND")
    assert git.fails("push", path=path) == (404, "NOT_FOUND")


# -- push ----------------------------------------------------------------------------


def test_push_moves_the_namesake_only(
    git: Git, guarded: Remote, tmp_path: Path
) -> None:
    guarded.create("project", {"a.txt": "one"})
    path = tmp_path / "clone"
    git.do("clone", url=guarded.url("project"), path=path, **CREDENTIALS)
    made = commit(path, "ours", {"a.txt": "two"})
    run("tag", "untold", cwd=path)
    run("config", "push.followTags", "true", cwd=path)
    run("config", "remote.origin.mirror", "true", cwd=path)

    refused = git.fails("push", path=path)
    answer = git.post("push", path=path, **CREDENTIALS)
    again = git.post("push", path=path, **CREDENTIALS)

    bare = guarded.bare("project")
    assert refused == (401, "GIT_AUTH_FAILED")
    assert (answer.status, answer.body, again.status) == (200, b"", 200)
    assert run("rev-parse", "main", cwd=bare) == made
    assert run("tag", cwd=bare) == ""


def test_push_of_a_named_branch_sets_its_upstream_when_asked(
    git: Git, remote: Remote, tmp_path: Path
) -> None:
    remote.create("project", {"a.txt": "one"})
    path = cloned(git, remote, tmp_path / "clone")
    git.do("branches", path=path, name="side")
    run("config", "branch.side.description", "kept", cwd=path)
    run("checkout", "--quiet", "--detach", cwd=path)

    git.do("push", path=path, branch="side", set_upstream=True)

    assert run("config", "branch.side.merge", cwd=path) == "refs/heads/side"
    assert run("config", "branch.side.description", cwd=path) == "kept"
    assert git.fails("push", path=path, branch="nope") == (404, "GIT_BRANCH_NOT_FOUND")
    assert git.fails("push", path=path, branch="side", remote="no") == (
        404,
        "NOT_FOUND",
    )


def test_push_is_never_forced(git: Git, remote: Remote, tmp_path: Path) -> None:
    remote.create("project", {"a.txt": "one"})
    path = cloned(git, remote, tmp_path / "clone")
    theirs = remote.commit("project", "theirs", {"a.txt": "theirs"})
    commit(path, "ours", {"b.txt": "ours"})
    run("config", "remote.origin.push", "+refs/heads/*:refs/heads/*", cwd=path)

    assert git.fails("push", path=path) == (409, "GIT_PUSH_REJECTED")

    assert run("rev-parse", "main", cwd=remote.bare("project")) == theirs


def test_push_that_the_remote_refuses_is_told_with_its_words(
    git: Git, remote: Remote, tmp_path: Path
) -> None:
    remote.create("project", {"a.txt": "one"})
    path = cloned(git, remote, tmp_path / "clone")
    hook = remote.bare("project") / "hooks/pre-receive"
    hook.write_text("#!/bin/sh\necho 'this branch is protected' >&2\nexit 1\n")
    hook.chmod(0o755)
    commit(path, "ours", {"b.txt": "ours"})

    answer = git.post("push", path=path)

    assert failure(answer) == (422, "GIT_REMOTE_REJECTED")
    assert "this branch is protected" in answer.json()["message"]


# -- remotes -------------------------------------------------------------------------


def test_remotes_are_sorted_and_passwords_left_out(git: Git, repo: Path) -> None:
    for name, url in (
        ("z", "git@example.test:a/b.git"),
        ("a", "https://user:pass@example.test/r.git"),
        ("m", "https://user@example.test:8443/r.git"),
    ):
        run("remote", "add", name, url, cwd=repo)

    assert git.told("remotes", repo)["remotes"] == [
        {"name": "a", "url": "https://user@example.test/r.git"},
        {"name": "m", "url": "https://user@example.test:8443/r.git"},
        {"name": "z", "url": "git@example.test:a/b.git"},
    ]


def test_no_remotes_are_an_empty_list(git: Git, repo: Path) -> None:
    assert git.told("remotes", repo) == {"remotes": []}


def test_remote_is_added_fetched_and_replaced(
    git: Git, repo: Path, remote: Remote
) -> None:
    remote.create("project", {"a.txt": "one"})
    url = remote.url("project")

    answer = git.post("remotes", path=repo, name="up", url=url, fetch=True)
    taken = git.fails("remotes", path=repo, name="up", url="https://x.test/y")
    fetched = run("branch", "-r", cwd=repo)
    git.do("remotes", path=repo, name="up", url="https://x.test/y", overwrite=True)

    assert (answer.status, answer.body) == (201, b"")
    assert taken == (409, "CONFLICT")
    assert fetched.strip() == "up/main"
    assert git.told("remotes", repo)["remotes"][0]["url"] == "https://x.test/y"


def test_remote_stays_when_its_fetch_fails(
    git: Git, repo: Path, remote: Remote
) -> None:
    body = {"path": repo, "name": "up", "url": remote.url("none"), "fetch": True}

    assert git.fails("remotes", **body) == (404, "GIT_REPO_NOT_FOUND")
    assert git.told("remotes", repo)["remotes"][0]["name"] == "up"


def test_password_of_a_remote_is_kept_in_memory_only(
    git: Git, repo: Path, guarded: Remote
) -> None:
    guarded.create("project", {"a.txt": "one"})
    user_info = f"{USER}:{quote(PASSWORD, safe='')}"
    url = guarded.url("project").replace("://", f"://{user_info}@")

    git.do("remotes", path=repo, name="up", url=url, fetch=True)

    assert quote(PASSWORD, safe="") not in (repo / ".git/config").read_text()
    assert run("branch", "-r", cwd=repo).strip() == "up/main"


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("-x", "https://x.test/y"),
        ("a b", "https://x.test/y"),
        ("a..b", "https://x.test/y"),
        ("up", "--upload-pack=x"),
        ("up", "ext::sh -c id"),
        ("up", "https://x.test/\ny"),
    ],
)
def test_bad_remote_is_refused(git: Git, repo: Path, name: str, url: str) -> None:
    assert git.fails("remotes", path=repo, name=name, url=url) == (400, "BAD_REQUEST")
    assert git.told("remotes", repo) == {"remotes": []}
