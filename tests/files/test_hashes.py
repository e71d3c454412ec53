"""The hash of a file is told with the rest, of what it held at one moment."""

import hashlib
import os
from pathlib import Path

import pytest

from agent.errors import ConflictError, TooLargeError
from agent.files.content import READ_BYTES, open_content
from agent.files.hashes import HASHED_MAX_BYTES, STEP_BYTES, Hashing, sha256_of
from tests.files.conftest import Agent, failure


@pytest.mark.parametrize(
    "size", [0, 1, READ_BYTES - 1, READ_BYTES, 3 * READ_BYTES + 7, STEP_BYTES + 5]
)
async def test_info_tells_the_hash_when_asked(agent: Agent, size: int) -> None:
    content = os.urandom(min(size, 1000)) + b"x" * max(size - 1000, 0)
    (agent.work_dir / "f").write_bytes(content)
    (agent.work_dir / "link").symlink_to("f")

    url = agent.at("/files/info", "link", hash="sha256")
    async with agent.client.get(url) as response:
        told = await response.json()
    async with agent.client.get(agent.at("/files/info", "link")) as response:
        plain = await response.json()

    assert told.pop("sha256") == hashlib.sha256(content).hexdigest()
    assert told == plain


async def test_virtual_files_have_a_hash_of_what_they_say(agent: Agent) -> None:
    url = agent.at("/files/info", "/proc/version", hash="sha256")
    async with agent.client.get(url) as response:
        told = await response.json()

    with open("/proc/version", "rb") as file:  # noqa: ASYNC230, PTH123 - it is short
        assert told["sha256"] == sha256_of(file.read())


@pytest.mark.parametrize(
    ("path", "kind", "status"),
    [("f", "md5", 400), ("d", "sha256", 400), ("pipe", "sha256", 400)],
)
async def test_what_cannot_be_hashed_is_refused(
    agent: Agent, path: str, kind: str, status: int
) -> None:
    (agent.work_dir / "f").touch()
    (agent.work_dir / "d").mkdir()
    os.mkfifo(agent.work_dir / "pipe")

    async with agent.client.get(agent.at("/files/info", path, hash=kind)) as response:
        assert (await failure(response))[0] == status


async def test_the_hash_of_what_is_missing_is_not_found(agent: Agent) -> None:
    url = agent.at("/files/info", "none", hash="sha256")
    async with agent.client.get(url) as response:
        assert (await failure(response))[:2] == (404, "FILE_NOT_FOUND")


def test_a_file_that_changes_meanwhile_has_no_hash(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x" * STEP_BYTES)
    content = open_content(str(path), "f")
    hashing = Hashing(content, "f")

    assert not hashing.step()
    with path.open("ab") as file:
        file.write(b"more")

    with pytest.raises(ConflictError, match="f: changed"):
        hashing.step()
    content.close()


def test_a_file_past_the_bound_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.touch()
    os.truncate(path, HASHED_MAX_BYTES + 1)
    content = open_content(str(path), "f")

    with pytest.raises(TooLargeError):
        Hashing(content, "f")
    content.close()
