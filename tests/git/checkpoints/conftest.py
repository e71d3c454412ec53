"""What tests of checkpoints ask, and how they look at a directory as a whole."""

import hashlib
import os
import stat
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes

import pytest

from tests.git.conftest import Git, failure
from tests.support.agent import Answer, Body


class Desk:
    """Asks one agent for the checkpoints of directories."""

    def __init__(self, git: Git) -> None:
        self.git = git

    def ask(
        self, method: str, path: Path, route: str = "", body: Body = None, **more: Any
    ) -> Answer:
        """Make one request about a directory, every byte of its name kept."""
        headers, limit_s = more.pop("headers", None), more.pop("limit_s", 10.0)
        query = "".join(f"&{key}={value}" for key, value in more.items())
        name = quote_from_bytes(os.fsencode(path))
        target = f"/git/checkpoint{route}?path={name}{query}"
        return self.git.agent.request(method, target, body, headers, limit_s=limit_s)

    def take(self, path: Path, **body: object) -> Any:
        """Take a checkpoint; return what is told of it."""
        answer = self.ask("POST", path, body=body)
        assert answer.status == 201, answer.body
        return answer.json()

    def told(self, path: Path) -> Any:
        """Return the checkpoints, newest first."""
        answer = self.ask("GET", path)
        assert answer.status == 200, answer.body
        return answer.json()

    def restore(self, path: Path, checkpoint: Any, **body: object) -> Any:
        """Restore; return what is told of it."""
        answer = self.ask("POST", path, f"/{checkpoint['id']}/restore", body)
        assert answer.status == 200, answer.body
        return answer.json()

    def cannot_restore(
        self, path: Path, checkpoint: Any, **body: object
    ) -> tuple[int, str]:
        """Fail to restore; return status and message."""
        answer = self.ask("POST", path, f"/{checkpoint['id']}/restore", body)
        status, _ = failure(answer)
        return status, answer.json()["message"]

    def diff(self, path: Path, checkpoint: Any, **query: Any) -> Any:
        """Return a difference."""
        answer = self.ask("GET", path, f"/{checkpoint['id']}/diff", **query)
        assert answer.status == 200, answer.body
        return answer.json()

    @property
    def stores(self) -> list[Path]:
        """The stores of all directories."""
        return sorted((self.git.agent.state_dir / "checkpoints").glob("*.git"))


@pytest.fixture
def desk(git: Git) -> Desk:
    """Return a client of checkpoints."""
    return Desk(git)


def picture(root: Path) -> dict[bytes, tuple[str, ...]]:
    """Return everything about a directory that a restore has to bring back."""
    found: dict[bytes, tuple[str, ...]] = {}
    for path in root.rglob("*"):
        status = path.lstat()
        content = ""
        if path.is_symlink():
            content = repr(path.readlink())
        elif path.is_file():
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        owner = f"{status.st_uid}:{status.st_gid}"
        name = os.fsencode(path.relative_to(root))
        found[name] = (stat.filemode(status.st_mode), owner, content)
    return found


def times(root: Path) -> dict[bytes, tuple[int, int]]:
    """Return inode and time of change of every entry: nobody touched what is equal."""
    return {
        os.fsencode(path): (path.lstat().st_ino, path.lstat().st_ctime_ns)
        for path in root.rglob("*")
    }
