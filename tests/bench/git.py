"""Git's work in a large repository, against the git program itself."""

import itertools
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote

from tests.bench.clients import fetch, request
from tests.bench.measure import (
    MIB,
    Bench,
    Case,
    Goal,
    Row,
    at_most,
    interleaved,
    peak_growth,
    seconds,
)
from tests.support.agent import Agent

FILES = 20_000
PER_DIRECTORY = 100
COMMITS = 5000
LARGE_MIB = 16
"""Of the clone; random, so that nothing of it is packed away."""
AUTHOR = {"author": "A", "email": "a@example.test"}
IDENTITY = {
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@example.test",
    "GIT_COMMITTER_NAME": "A",
    "GIT_COMMITTER_EMAIL": "a@example.test",
}
STATUS = ("status", "--porcelain=v2", "--branch", "-z", "--untracked-files=all")
BRANCHES = ("for-each-ref", "--format=%(refname)", "refs/heads/")
LOG = ("log", "-z", "--format=%H%x00%an%x00%ae%x00%aI%x00%B")


def git(
    words: Sequence[str],
    cwd: Path,
    stdin: bytes = b"",
    variables: Mapping[str, str] = MappingProxyType({}),
) -> bytes:
    """Run git as a script of the user's would."""
    return subprocess.run(
        ["git", *words],
        cwd=cwd,
        env={"PATH": os.defpath, "HOME": str(cwd.parent), **IDENTITY, **variables},
        input=stdin,
        check=True,
        capture_output=True,
    ).stdout


def grown(root: Path) -> Path:
    """Make a repository of many files and commits."""
    repo = root / "repo"
    repo.mkdir()
    for number in range(FILES):
        path = repo / f"d{number // PER_DIRECTORY}" / f"f{number}.txt"
        if number % PER_DIRECTORY == 0:
            path.parent.mkdir()
        path.write_text(f"line {number}\n" * 20)
    git(["init", "-q", "-b", "main"], repo)
    git(["add", "."], repo)
    git(["commit", "-q", "-m", "first"], repo)
    commits = (
        f"commit refs/heads/main\ncommitter A <a@example.test> {number} +0000\n"
        f"data 40\nmessage {number:<32}\n"
        + ("from refs/heads/main^0\n" if number == 0 else "")
        for number in range(COMMITS)
    )
    git(["fast-import", "--quiet"], repo, "".join(commits).encode())
    return repo


class Rivals:
    """The same work, done through the agent and by git itself.

    Args:
        agent: The agent.
        repo: The repository.
    """

    def __init__(self, agent: Agent, repo: Path) -> None:
        self._agent = agent
        self._repo = repo
        self._numbers = itertools.count()

    def edit(self) -> None:
        """Change one file."""
        (self._repo / "d0/f1.txt").write_text(f"{next(self._numbers)}\n")

    def stage(self) -> None:
        """Change one file, and stage that."""
        self.edit()
        git(["add", "."], self._repo)

    def get(self, route: str) -> float:
        """Return how long the agent takes to tell something."""
        target = f"/git/{route}?path={quote(str(self._repo))}"
        headers = {**self._agent.auth, "Connection": "close"}
        message = request(self._agent.port, "GET", target, headers)
        return seconds(lambda: fetch(self._agent.port, message))

    def post(self, route: str, **fields: object) -> float:
        """Return how long the agent takes to do something."""
        path = str(self._repo)
        return seconds(lambda: asked(self._agent, route, path=path, **fields))

    def plain(self, *words: str) -> float:
        """Return how long git takes."""
        return seconds(lambda: git(words, self._repo))

    def after(
        self, prepare: Callable[[], None], measure: Callable[[], float]
    ) -> Callable[[], float]:
        """Return a measure that is prepared each time."""

        def measured() -> float:
            prepare()
            return measure()

        return measured


def work(bench: Bench) -> Iterator[Row]:
    """Measure what stays on this machine."""
    repo = grown(bench.directory())
    with bench.agent() as agent:
        found = Rivals(agent, repo)
        pairs: tuple[tuple[str, Callable[[], float], Callable[[], float]], ...] = (
            ("status", lambda: found.get("status"), lambda: found.plain(*STATUS)),
            (
                "add of everything",
                found.after(found.edit, lambda: found.post("add", files=["."])),
                found.after(found.edit, lambda: found.plain("add", "-A", ".")),
            ),
            (
                "commit",
                found.after(
                    found.stage, lambda: found.post("commit", message="m", **AUTHOR)
                ),
                found.after(
                    found.stage, lambda: found.plain("commit", "-q", "-m", "m")
                ),
            ),
            ("log", lambda: found.get("history"), lambda: found.plain(*LOG)),
            ("branches", lambda: found.get("branches"), lambda: found.plain(*BRANCHES)),
        )
        for name, ours, limit in pairs:
            ours(), limit()
            # A request takes as long as all of git's work here.
            goal = None if name == "branches" else at_most(1.15)
            yield row(bench, name, ours, limit, goal)


def row(
    bench: Bench,
    name: str,
    ours: Callable[[], float],
    limit: Callable[[], float],
    goal: Goal | None,
) -> Row:
    """Measure one kind of work, round by round."""
    values = interleaved(bench.rounds, ours, limit)
    return Row(
        name=f"{name} in {FILES} files",
        ours=[value * 1000 for value in values[0]],
        limit=[value * 1000 for value in values[1]],
        unit="ms",
        goal=goal,
    )


def asked(agent: Agent, route: str, **fields: object) -> None:
    """Make one request that succeeds."""
    answer = agent.request("POST", f"/git/{route}", fields, limit_s=120)
    assert answer.status == 200, answer.body


def large(root: Path) -> Path:
    """Make a repository of `LARGE_MIB` that does not pack."""
    repo = root / "large"
    repo.mkdir()
    for number in range(LARGE_MIB):
        (repo / f"{number}.bin").write_bytes(os.urandom(MIB))
    git(["init", "-q", "-b", "main"], repo)
    git(["add", "."], repo)
    git(["commit", "-q", "-m", "first"], repo)
    return repo


def clone(bench: Bench) -> Iterator[Row]:
    """Measure a large clone, and what it costs the api."""
    root = bench.directory()
    url = f"file://{large(root)}"
    numbers = itertools.count()
    with bench.agent() as agent:

        def ours() -> float:
            path = str(root / f"ours-{next(numbers)}")
            return seconds(lambda: asked(agent, "clone", url=url, path=path))

        def limit() -> float:
            target = str(root / f"limit-{next(numbers)}")
            words = ["clone", "-q", "--single-branch", url, target]
            return seconds(lambda: git(words, root))

        ours(), limit()
        with peak_growth([agent.api_pid()]) as growth:
            values = interleaved(bench.rounds, ours, limit)
        yield Row(
            name=f"git clone of {LARGE_MIB} MiB",
            ours=[value * 1000 for value in values[0]],
            limit=[value * 1000 for value in values[1]],
            unit="ms",
            goal=at_most(1.15),
        )
        yield Row(
            name="growth of the api meanwhile",
            ours=[growth[0] / MIB],
            unit="MiB",
            goal=at_most(16),
        )


class Snapshots:
    """States of one directory, kept by the agent, and by git in an index beside it.

    Args:
        agent: The agent.
        root: The directory, a repository.
        beside: Where git keeps what is not the repository's.
    """

    def __init__(self, agent: Agent, root: Path, beside: Path) -> None:
        self._agent = agent
        self._root = root
        self._beside = beside
        self._target = f"/git/checkpoint?path={quote(str(root))}"

    def ours(self) -> float:
        """Return how long a checkpoint takes."""
        return seconds(self._ours)

    def limit(self) -> float:
        """Return how long git takes to keep all files in an index of its own."""
        return seconds(self._limit)

    def _ours(self) -> None:
        answer = self._agent.request("POST", self._target, limit_s=120)
        assert answer.status == 201, answer.body

    def _limit(self) -> None:
        (self._beside / "objects").mkdir(parents=True, exist_ok=True)
        variables = {
            "GIT_INDEX_FILE": str(self._beside / "index"),
            "GIT_OBJECT_DIRECTORY": str(self._beside / "objects"),
        }
        git(["add", "-A", "."], self._root, variables=variables)
        git(["write-tree"], self._root, variables=variables)

    def forget(self) -> None:
        """Leave neither side anything to build upon."""
        listed = self._agent.request("GET", self._target).json()["checkpoints"]
        for each in listed:
            route = self._target.replace("?", f"/{each['id']}?")
            assert self._agent.request("DELETE", route, limit_s=60).status == 204
        shutil.rmtree(self._beside, ignore_errors=True)


def checkpoints(bench: Bench) -> Iterator[Row]:
    """Measure the first checkpoint of a directory, and one after a small change."""
    root = bench.directory()
    repo = grown(root)
    with bench.agent() as agent:
        found = Snapshots(agent, repo, root / "beside")
        rivals = Rivals(agent, repo)
        kinds = (("first checkpoint", found.forget), ("further one", rivals.edit))
        for name, prepare in kinds:
            # Imports and caches are paid before either is measured.
            found.ours()
            found.limit()
            yield row(
                bench,
                name,
                rivals.after(prepare, found.ours),
                rivals.after(prepare, found.limit),
                None,
            )


CASES = (
    Case(
        name="git",
        about="git's work in a large repository, against the git program",
        run=work,
        needs=("git",),
    ),
    Case(
        name="git-clone",
        about="a large clone, against the git program",
        run=clone,
        needs=("git",),
        needs_root=True,
    ),
    Case(
        name="git-checkpoint",
        about="checkpoints of a large directory, against git and an index beside it",
        run=checkpoints,
        needs=("git",),
    ),
)
