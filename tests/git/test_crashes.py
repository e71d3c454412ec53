"""Kills and clients that leave: nothing half-made, no lock of ours, nothing of others' lost."""

import contextlib
import itertools
import os
import signal
import subprocess
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from agent.git.journal import Entry, Journal
from tests.git.conftest import AUTHOR, Git
from tests.git.remote import Remote, commit, fill, git as run, repository
from tests.git.test_credentials import held
from tests.git.test_local import head
from tests.support.agent import Agent, Answer, StartAgent
from tests.support.processes import tagged, wait_gone

pytestmark = pytest.mark.timeout(30)  # agents that die and come back


def gits(agent: Agent) -> list[int]:
    """Return the gits that an agent runs."""
    found = []
    for pid in tagged("AGENT_UNDER_TEST", agent.tag):
        try:
            name = Path(f"/proc/{pid}/comm").read_text()
        except OSError:
            continue
        if name.startswith("git"):
            found.append(pid)
    return found


def kill_api(agent: Agent) -> None:
    """Kill the api, and wait for the next one."""
    os.kill(agent.api_pid(), signal.SIGKILL)
    assert agent.request("GET", "/version").status == 200


def is_whole(repo: Path) -> bool:
    """Tell whether a repository passes git's check and has no lock."""
    run("fsck", "--strict", cwd=repo)
    return not list((repo / ".git").rglob("*.lock"))


def test_killed_api_leaves_no_clone_and_the_next_one_succeeds(
    agent: Agent, remote: Remote, tmp_path: Path
) -> None:
    remote.create("project", {"a": "x" * 10_000})
    path = tmp_path / "deep" / "clone"
    body = {"url": remote.url("project"), "path": path}
    git = Git(agent)
    with held(remote) as hold, ThreadPoolExecutor(1) as pool:
        pool.submit(git.post, "clone", **body)
        hold.wait()
        assert path.exists()
        running = gits(agent)
        kill_api(agent)
        hold.go_on()

        # A change waits until what the dead api has left is gone.
        git.do("clone", **body)

    assert is_whole(path)
    assert all(map(wait_gone, running))
    assert not list((agent.state_dir / "git").rglob("*/*"))


def test_clone_whose_git_was_killed_too_is_removed(
    agent: Agent, remote: Remote, tmp_path: Path
) -> None:
    remote.create("project", {"a": "x"})
    path = tmp_path / "clone"
    git = Git(agent)
    with held(remote) as hold, ThreadPoolExecutor(1) as pool:
        pool.submit(git.post, "clone", url=remote.url("project"), path=path)
        hold.wait()
        os.kill(agent.api_pid(), signal.SIGSTOP)
        killed = gits(agent)
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        assert path.exists()
        kill_api(agent)
        hold.go_on()
    git.do("init", path=tmp_path / "other")
    git.do("clone", url=remote.url("project"), path=path)

    assert is_whole(path)


def test_killed_api_leaves_the_branch_of_a_pull_where_it_was(
    agent: Agent, remote: Remote, tmp_path: Path
) -> None:
    remote.create("project", {"a": "x"})
    git, path = Git(agent), tmp_path / "clone"
    git.do("clone", url=remote.url("project"), path=path)
    before = head(path)
    made = remote.commit("project", "more", {"a": "y"})
    with held(remote) as hold, ThreadPoolExecutor(1) as pool:
        pool.submit(git.post, "pull", path=path)
        hold.wait()
        kill_api(agent)
        hold.go_on()

    assert head(path) == before
    git.do("pull", path=path)
    assert head(path) == made
    assert is_whole(path)


def slow_filter(agent: Agent, directory: Path) -> Path:
    """Have `git add` wait in the middle, with its lock held; returns the pipe to wait at."""
    pipe = directory / "reached"
    os.mkfifo(pipe)
    program = directory / "slow"
    program.write_text(f"#!/bin/sh\necho >{pipe}\nexec sleep 60\n")
    program.chmod(0o755)
    (agent.home / ".gitconfig").write_text(f'[filter "slow"]\n\tclean = {program}\n')
    return pipe


@pytest.mark.parametrize("git_too", [False, True])
def test_killed_api_leaves_no_lock_of_ours(
    agent: Agent, repo: Path, tmp_path: Path, git_too: bool
) -> None:
    pipe = slow_filter(agent, tmp_path)
    fill(repo, {".gitattributes": "slow.txt filter=slow", "slow.txt": "x", "b": "y"})
    git = Git(agent)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(git.post, "add", path=repo, files=["."])
        pipe.read_text()
        assert (repo / ".git/index.lock").exists()
        if git_too:
            os.kill(agent.api_pid(), signal.SIGSTOP)
            for pid in gits(agent):
                os.kill(pid, signal.SIGKILL)
        kill_api(agent)
    (agent.home / ".gitconfig").unlink()

    git.do("add", path=repo, files=["."])

    git.commit(repo)
    assert is_whole(repo)


def slow_driver(agent: Agent, directory: Path) -> Path:
    """Have a merge of contents wait in the middle; returns the pipe to wait at."""
    pipe = directory / "reached"
    os.mkfifo(pipe)
    program = directory / "slow"
    program.write_text(f"#!/bin/sh\necho >{pipe}\nexec sleep 60\n")
    program.chmod(0o755)
    (agent.home / ".gitconfig").write_text(f'[merge "slow"]\n\tdriver = {program}\n')
    return pipe


def diverged(repo: Path) -> tuple[str, str]:
    """Make `other`, which has changed another line; return the hashes of both."""
    lines = [f"{number}\n" for number in range(20)]
    run("checkout", "-q", "-b", "other", cwd=repo)
    base = {".gitattributes": "a.txt merge=slow\n", "a.txt": "".join(lines)}
    commit(repo, "base", base)
    run("branch", "-f", "main", cwd=repo)
    theirs = commit(repo, "theirs", {"a.txt": "".join(["theirs\n", *lines])})
    run("checkout", "-q", "main", cwd=repo)
    commit(repo, "before", {"b.txt": "b"})
    ours = commit(repo, "ours", {"a.txt": "".join([*lines, "ours\n"])})
    return ours, theirs


@pytest.mark.parametrize("git_too", [False, True])
@pytest.mark.parametrize("kind", ["merge", "rebase", "cherry-pick"])
def test_killed_api_leaves_a_change_that_can_be_taken_back_and_made_again(
    agent: Agent, repo: Path, tmp_path: Path, kind: str, git_too: bool
) -> None:
    ours, theirs = diverged(repo)
    which: dict[str, dict[str, object]] = {
        "merge": {"revision": "other"},
        "rebase": {"upstream": "other"},
        "cherry-pick": {"revisions": ["other"]},
    }
    body = {"path": repo, **AUTHOR, **which[kind]}
    git, pipe = Git(agent), slow_driver(agent, tmp_path)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(git.post, kind, **body)
        pipe.read_text()
        if git_too:
            os.kill(agent.api_pid(), signal.SIGSTOP)
            for pid in gits(agent):
                os.kill(pid, signal.SIGKILL)
        kill_api(agent)
    (agent.home / ".gitconfig").unlink()

    # Clears away what is the agent's before it answers; what is git's own is told.
    answer = git.post(kind, path=repo, step="abort")

    assert answer.status == 200 or "is under way" in answer.json()["message"]
    assert is_whole(repo)
    assert head(repo) == ours
    assert git.files(repo) == {}
    git.do(kind, **body)
    assert (repo / "a.txt").read_text().startswith("theirs\n0\n")
    assert (repo / "a.txt").read_text().endswith("19\nours\n")
    assert is_whole(repo)
    run("cat-file", "-e", theirs, cwd=repo)


def test_lock_that_was_there_before_is_left_by_the_sweep(
    agent: Agent, repo: Path, tmp_path: Path
) -> None:
    theirs = repo / ".git/HEAD.lock"
    theirs.write_text("theirs")
    pipe = slow_filter(agent, tmp_path)
    fill(repo, {".gitattributes": "slow.txt filter=slow", "slow.txt": "x"})
    git = Git(agent)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(git.post, "add", path=repo, files=["."])
        pipe.read_text()
        os.kill(agent.api_pid(), signal.SIGSTOP)
        for pid in gits(agent):
            os.kill(pid, signal.SIGKILL)
        kill_api(agent)
    (agent.home / ".gitconfig").unlink()

    git.do("add", path=repo, files=["slow.txt"])

    assert theirs.read_text() == "theirs"


def keep_committing(
    git: Git, repo: Path, made: list[str], stop: threading.Event
) -> None:
    """Commit again and again, whatever comes of it; add what was told to be made."""
    for number in itertools.count():
        if stop.is_set():
            return
        fill(repo, {"a.txt": f"{number}\n"})
        body = {"path": repo, "message": f"{number}", **AUTHOR, "allow_empty": True}
        with contextlib.suppress(OSError):
            git.post("add", path=repo, files=["."])
            answer = git.post("commit", **body)
            if answer.status == 200:
                made.append(answer.json()["hash"])


@pytest.mark.timeout(60)
def test_kills_at_any_moment_of_commits_leave_a_whole_repository(
    agent: Agent, repo: Path
) -> None:
    git, stop = Git(agent), threading.Event()
    made: list[str] = []
    with ThreadPoolExecutor(1) as pool:
        worker = pool.submit(keep_committing, git, repo, made, stop)
        try:
            for _ in range(3):
                reached = len(made) + 2
                while len(made) < reached and not worker.done():
                    agent.request("GET", "/version")
                kill_api(agent)
        finally:
            stop.set()
        worker.result()

    git.commit(repo, "last", allow_empty=True)
    assert is_whole(repo)
    assert set(made) <= set(run("log", "--format=%H", cwd=repo).split())


def test_client_that_leaves_its_events_ends_the_clone(
    agent: Agent, remote: Remote, tmp_path: Path
) -> None:
    remote.create("project", {"a": "x"})
    path = tmp_path / "clone"
    with held(remote) as hold:
        with agent.connection() as line:
            line.sendall(request(agent, remote, path, "Accept: text/event-stream\r\n"))
            assert b"200 OK" in line.recv(65536)
            hold.wait()
            running = gits(agent)
            assert running
        assert all(map(wait_gone, running))
        # The lock of the place is free once everything is cleared away.
        Git(agent).fails("clone", url=remote.url("none"), path=path)

    assert not path.exists()


def test_client_that_leaves_without_asking_for_events_gets_its_clone(
    agent: Agent, remote: Remote, tmp_path: Path
) -> None:
    remote.create("project", {"a": "x"})
    path = tmp_path / "clone"
    with held(remote) as hold:
        with agent.connection() as line:
            line.sendall(request(agent, remote, path))
            hold.wait()
        hold.go_on()

        while not (path / "a").exists():
            agent.request("GET", "/version")

    assert (path / "a").read_text() == "x"


def request(agent: Agent, remote: Remote, path: Path, more: str = "") -> bytes:
    body = f'{{"url": "{remote.url("project")}", "path": "{path}"}}'
    return (
        f"POST /git/clone HTTP/1.1\r\nHost: 127.0.0.1:{agent.port}\r\n"
        f"Authorization: Bearer {agent.token}\r\n{more}"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


def test_agent_that_stops_ends_a_clone_and_removes_it(
    start_agent: StartAgent, remote: Remote, tmp_path: Path
) -> None:
    remote.create("project", {"a": "x"})
    agent, path = start_agent(), tmp_path / "clone"
    with held(remote) as hold, ThreadPoolExecutor(1) as pool:
        asked: Future[Answer] = pool.submit(
            Git(agent).post, "clone", url=remote.url("project"), path=path
        )
        hold.wait()
        assert agent.stop() == 0
        hold.go_on()
        assert asked.exception() or asked.result().status == 503

    assert not path.exists()


# -- the journal ---------------------------------------------------------------------


def test_sweep_touches_nothing_of_the_living(tmp_path: Path) -> None:
    repo = repository(tmp_path / "repo", {"a": "x"})
    journal = Journal(str(tmp_path / "state"))
    note = journal.note(Entry(git_dirs=[os.fsencode(repo / ".git")]))
    note.begin()
    (repo / ".git/index.lock").touch()

    Journal(str(tmp_path / "state")).sweep()

    assert (repo / ".git/index.lock").exists()
    note.end(dirty=True)
    assert not (repo / ".git/index.lock").exists()
    journal.close()
    assert not list((tmp_path / "state/git").iterdir())


def test_journal_that_was_tampered_with_is_cleared_and_obeyed_by_nobody(
    tmp_path: Path,
) -> None:
    host = os.uname().nodename
    owner = tmp_path / "state/git" / f"{host.replace('.', '_')}.999999999.1"
    owner.mkdir(parents=True)
    (owner / "0").write_bytes(b"{nonsense")
    (owner / "1").write_bytes(b'{"clone": 7}')
    (owner / "2~").write_bytes(b"{}")
    (tmp_path / "state/git/stranger").mkdir()

    Journal(str(tmp_path / "state")).sweep()

    assert not owner.exists()
    assert (tmp_path / "state/git/stranger").exists()


def test_working_git_of_somebody_else_keeps_its_locks(tmp_path: Path) -> None:
    repo = repository(tmp_path / "repo", {"a": "x"})
    journal = Journal(str(tmp_path / "state"))
    note = journal.note(
        Entry(git_dirs=[os.fsencode(repo / ".git")], work_tree=os.fsencode(repo))
    )
    note.begin()
    (repo / ".git/index.lock").touch()

    with subprocess.Popen(
        ["git", "cat-file", "--batch-check"],
        cwd=repo,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as theirs:
        assert theirs.stdin is not None
        assert theirs.stdout is not None
        theirs.stdin.write(b"HEAD\n")
        theirs.stdin.flush()
        assert theirs.stdout.readline()
        note.end(dirty=True)
        assert (repo / ".git/index.lock").exists()
        theirs.communicate()
    journal.close()
