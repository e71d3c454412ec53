"""An agent that the tests of a file share, and what to ask it."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.git.remote import Remote, repository, serving
from tests.support.agent import Agent, Answer, starting

AUTHOR = {"author": "Ada Lovelace", "email": "ada@example.test"}
USER, PASSWORD = "bot-user", "c4n4ry-s3cret/+ü"
CREDENTIALS = {"username": USER, "password": PASSWORD}


class Git:
    """Asks one agent for git."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent

    def ask(
        self,
        method: str,
        route: str,
        body: Mapping[str, object] | None = None,
        **more: Any,
    ) -> Answer:
        """Make one request below `/git/`."""
        if body is not None:
            body = {
                key: str(value) if isinstance(value, Path) else value
                for key, value in body.items()
            }
        return self.agent.request(method, f"/git/{route}", body, **more)

    def post(self, route: str, **body: object) -> Answer:
        """Make one POST request, whatever comes of it."""
        return self.ask("POST", route, body)

    def do(self, route: str, **body: object) -> Any:
        """Make one POST request that succeeds; return its decoded answer, if any."""
        answer = self.post(route, **body)
        assert answer.status in {200, 201}, answer.body
        return json.loads(answer.body) if answer.body else None

    def fails(self, route: str, **body: object) -> tuple[int, str]:
        """Make one POST request that fails; return status and code."""
        return failure(self.post(route, **body))

    def get(self, route: str, path: object = None, **query: str) -> Answer:
        """Make one GET request."""
        pairs = {**({} if path is None else {"path": str(path)}), **query}
        return self.ask("GET", f"{route}?{urlencode(pairs)}")

    def told(self, route: str, path: object = None, **query: str) -> Any:
        """Make one GET request that succeeds; return its decoded answer."""
        answer = self.get(route, path, **query)
        assert answer.status == 200, answer.body
        return answer.json()

    def refused(self, route: str, path: object = None, **query: str) -> tuple[int, str]:
        """Make one GET request that fails; return status and code."""
        return failure(self.get(route, path, **query))

    def files(self, path: Path) -> dict[str, tuple[str, str]]:
        """Return what differs: staging and worktree by name."""
        return {
            each["name"]: (each["staging"], each["worktree"])
            for each in self.told("status", path)["fileStatus"]
        }

    def commit(self, path: Path, message: str = "a message", **fields: object) -> str:
        """Commit the index; return the hash."""
        made = self.do("commit", path=path, message=message, **AUTHOR, **fields)
        found: str = made["hash"]
        return found


def failure(answer: Answer) -> tuple[int, str]:
    """Return status and code of a failure, its envelope checked."""
    told = answer.json()
    assert told["statusCode"] == answer.status >= 400
    assert told["source"] == "DAYTONA_DAEMON"
    assert told["message"]
    return answer.status, told["code"]


@pytest.fixture(scope="module")
def git(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Git]:
    """Return a client of an agent that all tests of the file share."""
    with starting(tmp_path_factory.mktemp("shared")) as start:
        yield Git(start())


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """Return a repository with one commit of `a.txt` and `src/b.txt`."""
    return repository(tmp_path / "repo", {"a.txt": "one\n", "src/b.txt": "two\n"})


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[Remote]:
    """Serve over plain HTTP; everybody may."""
    with serving(tmp_path / "served") as found:
        yield found


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Remote]:
    """Serve over plain HTTP; one user may."""
    with serving(tmp_path / "served", users={USER: PASSWORD}) as found:
        yield found


@contextlib.contextmanager
def unlocked(path: Path) -> Iterator[None]:
    """See that a repository is whole and unlocked afterwards."""
    yield
    assert not list(path.rglob("*.lock"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that ask the shared agent as such that start one."""
    for item in items:
        if "git" in getattr(item, "fixturenames", ()) and "tests/git" in str(item.path):
            item.add_marker("agent")
