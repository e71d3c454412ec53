"""The routes of entries, through a client: list, info, folder, delete."""

import asyncio
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.files import listing
from agent.files.deletion import delete

from .conftest import Agent, failure


async def test_a_listing_is_an_array_of_entries(agent: Agent) -> None:
    (agent.work_dir / "b").mkdir()
    (agent.work_dir / "a").write_bytes(b"12345")

    for url in (agent.at("/files"), agent.at("/files/"), agent.at("/files", "")):
        async with agent.client.get(url) as response:
            found = await response.json()

            assert response.status == 200
            assert response.headers["Content-Type"] == "application/json; charset=utf-8"
            assert [(entry["path"], entry["isDir"]) for entry in found] == [
                ("a", False),
                ("b", True),
            ]


async def test_an_empty_listing_is_an_empty_array(agent: Agent) -> None:
    async with agent.client.get(agent.at("/files", agent.work_dir)) as response:
        assert await response.read() == b"[]"


async def test_depth_lists_what_is_below(agent: Agent) -> None:
    (agent.work_dir / "a/b/c").mkdir(parents=True)

    async with agent.client.get(agent.at("/files", "a", depth="2")) as response:
        found = await response.json()

    assert [entry["path"] for entry in found] == ["a/b", "a/b/c"]


@pytest.mark.parametrize("depth", ["0", "-1", "x", "1.5"])
async def test_a_bad_depth_is_a_bad_request(agent: Agent, depth: str) -> None:
    async with agent.client.get(agent.at("/files", ".", depth=depth)) as response:
        status, code, message = await failure(response)

    assert (status, code) == (400, "BAD_REQUEST")
    assert message.startswith("depth: ")


@pytest.mark.parametrize("route", ["/files", "/files/info"])
@pytest.mark.parametrize(
    ("path", "status", "code", "message"),
    [
        ("nowhere", 404, "FILE_NOT_FOUND", "file not found: nowhere"),
        ("file/below", 400, "INVALID_FILE_PATH", "invalid file path: not a directory: file/below"),
        ("a\0b", 400, "INVALID_FILE_PATH", "invalid file path: it contains a NUL byte"),
        ("n" * 256, 400, "INVALID_FILE_PATH", f"invalid file path: name too long: {'n' * 256}"),
        ("x/" * 2500, 400, "INVALID_FILE_PATH", f"invalid file path: name too long: {'x/' * 2500}"),
        ("loop", 400, "INVALID_FILE_PATH", "invalid file path: too many links: loop"),
        ("dangling", 404, "FILE_NOT_FOUND", "file not found: dangling"),
    ],
)  # fmt: skip
async def test_failures_are_told_alike(
    agent: Agent, route: str, path: str, status: int, code: str, message: str
) -> None:
    (agent.work_dir / "file").touch()
    (agent.work_dir / "loop").symlink_to("loop")
    (agent.work_dir / "dangling").symlink_to("nowhere")

    async with agent.client.get(agent.at(route, path)) as response:
        assert await failure(response) == (status, code, message)


async def test_listing_a_file_is_an_invalid_path(agent: Agent) -> None:
    (agent.work_dir / "file").touch()

    async with agent.client.get(agent.at("/files", "file")) as response:
        status, code, _ = await failure(response)

    assert (status, code) == (400, "INVALID_FILE_PATH")


@pytest.mark.root
@pytest.mark.parametrize(
    ("method", "route"),
    [("GET", "/files"), ("GET", "/files/info"), ("DELETE", "/files"), ("POST", "/files/folder"), ("GET", "/files/download"), ("POST", "/files/upload-v2")],
)  # fmt: skip
async def test_what_the_system_refuses_is_forbidden(
    agent: Agent, method: str, route: str
) -> None:
    closed = agent.work_dir / "closed"
    (closed / "d").mkdir(parents=True)
    closed.chmod(0)
    for each in (agent.work_dir, *agent.work_dir.parents[:3]):
        each.chmod(each.stat().st_mode | 0o011)
    os.setegid(65534)
    os.seteuid(65534)
    try:
        url = agent.at(route, "closed/d")
        async with agent.client.request(method, url) as response:
            assert await failure(response) == (
                403,
                "FILE_ACCESS_DENIED",
                "permission denied: closed/d",
            )
    finally:
        os.seteuid(0)
        os.setegid(0)


async def test_info_describes_what_links_lead_to(agent: Agent) -> None:
    (agent.work_dir / "file").write_bytes(b"12345")
    (agent.work_dir / "link").symlink_to("file")

    async with agent.client.get(agent.at("/files/info", "link")) as response:
        found = await response.json()

    assert (found["name"], found["path"], found["size"]) == ("link", "link", 5)
    assert (found["mode"], found["permissions"]) == ("-rw-r--r--", "0644")
    assert (found["owner"], found["group"]) == (str(os.getuid()), str(os.getgid()))


@pytest.mark.parametrize(
    ("path", "name"), [(".", "."), ("/", "/"), ("d/", "d"), ("d/..", ".."), ("/tmp", "tmp")]
)  # fmt: skip
async def test_info_names_the_path_as_given(agent: Agent, path: str, name: str) -> None:
    (agent.work_dir / "d").mkdir()

    async with agent.client.get(agent.at("/files/info", path)) as response:
        found = await response.json()

    assert (found["name"], found["path"], found["isDir"]) == (name, path, True)


@pytest.mark.parametrize(
    ("method", "route"),
    [("GET", "/files/info"), ("DELETE", "/files"), ("POST", "/files/folder"), ("GET", "/files/download"), ("POST", "/files/upload"), ("POST", "/files/upload-v2")],
)  # fmt: skip
async def test_a_path_is_required(agent: Agent, method: str, route: str) -> None:
    for path in (None, ""):
        async with agent.client.request(method, agent.at(route, path)) as response:
            assert await failure(response) == (400, "BAD_REQUEST", "path is required")


@pytest.mark.parametrize(
    ("headers", "with_path"),
    [
        ({}, True),
        ({"X-Daytona-Source": "sdk-go", "X-Daytona-SDK-Version": "0.187.9"}, False),
        ({"X-Daytona-Source": "sdk-go", "X-Daytona-SDK-Version": "v0.100.0"}, False),
        ({"X-Daytona-Source": "sdk-go", "X-Daytona-SDK-Version": "0.188.0"}, True),
        ({"X-Daytona-Source": "sdk-go", "X-Daytona-SDK-Version": "1.0.0"}, True),
        ({"X-Daytona-Source": "sdk-go", "X-Daytona-SDK-Version": "0.0.0-dev"}, True),
        ({"X-Daytona-Source": "sdk-go", "X-Daytona-SDK-Version": "latest"}, True),
        ({"X-Daytona-Source": "sdk-python", "X-Daytona-SDK-Version": "0.1.0"}, True),
    ],
)
async def test_old_go_clients_see_no_field_that_they_do_not_know(
    agent: Agent, headers: dict[str, str], with_path: bool
) -> None:
    (agent.work_dir / "a").touch()

    async with agent.client.get(agent.at("/files"), headers=headers) as response:
        listed = (await response.json())[0]
    async with agent.client.get(
        agent.at("/files/info", "a"), headers=headers
    ) as response:
        described = await response.json()

    assert ("path" in listed, "path" in described) == (with_path, with_path)


async def test_names_that_are_not_utf8_are_shown_and_can_be_addressed(
    agent: Agent,
) -> None:
    name = b"\xff\xfe.txt"
    decoy = agent.work_dir / "\ufffd\ufffd.txt"
    decoy.write_bytes(b"decoy")
    (agent.work_dir / os.fsdecode(name)).write_bytes(b"raw")

    async with agent.client.get(agent.at("/files")) as response:
        assert [entry["name"] for entry in await response.json()] == [
            "\ufffd\ufffd.txt"
        ] * 2
    async with agent.client.get(agent.at("/files/info", name)) as response:
        assert (await response.json())["size"] == 3
    async with agent.client.get(agent.at("/files/download", name)) as response:
        assert await response.read() == b"raw"
    async with agent.client.delete(agent.at("/files", name)) as response:
        assert response.status == 204

    assert decoy.exists()
    assert len(list(agent.work_dir.iterdir())) == 1


async def test_a_folder_is_made_with_its_parents(agent: Agent) -> None:
    url = agent.at("/files/folder", "a/b", mode="711")
    for _ in range(2):
        async with agent.client.post(url) as response:
            assert (response.status, await response.read()) == (201, b"")
            assert response.headers["Content-Length"] == "0"

    for made in ("a", "a/b"):
        assert stat.S_IMODE((agent.work_dir / made).stat().st_mode) == 0o711


async def test_a_folder_has_mode_755_unless_told(agent: Agent) -> None:
    async with agent.client.post(agent.at("/files/folder", "a")) as response:
        assert response.status == 201

    assert stat.S_IMODE((agent.work_dir / "a").stat().st_mode) == 0o755


@pytest.mark.parametrize("mode", ["0o755", "rwx", "9"])
async def test_a_bad_mode_is_a_bad_request(agent: Agent, mode: str) -> None:
    async with agent.client.post(agent.at("/files/folder", "a", mode=mode)) as response:
        status, code, _ = await failure(response)

    assert (status, code) == (400, "BAD_REQUEST")
    assert not (agent.work_dir / "a").exists()


@pytest.mark.parametrize("path", ["file", "file/a"])
async def test_a_file_in_the_way_is_an_invalid_path(agent: Agent, path: str) -> None:
    (agent.work_dir / "file").touch()

    async with agent.client.post(agent.at("/files/folder", path)) as response:
        status, code, _ = await failure(response)

    assert (status, code) == (400, "INVALID_FILE_PATH")


@pytest.mark.parametrize("recursive", [None, "false", "true"])
async def test_a_file_is_deleted(agent: Agent, recursive: str | None) -> None:
    (agent.work_dir / "a").touch()
    query = {} if recursive is None else {"recursive": recursive}

    async with agent.client.delete(agent.at("/files/", "a", **query)) as response:
        assert (response.status, await response.read()) == (204, b"")

    assert not (agent.work_dir / "a").exists()


@pytest.mark.parametrize("recursive", [None, "false", "1", "True"])
async def test_a_directory_stays_unless_recursive_is_true(
    agent: Agent, recursive: str | None
) -> None:
    (agent.work_dir / "d").mkdir()
    query = {} if recursive is None else {"recursive": recursive}

    async with agent.client.delete(agent.at("/files", "d", **query)) as response:
        assert await failure(response) == (
            400,
            "BAD_REQUEST",
            "cannot delete directory without recursive flag",
        )
    async with agent.client.delete(
        agent.at("/files", "d", recursive="true")
    ) as response:
        assert response.status == 204

    assert not (agent.work_dir / "d").exists()


@pytest.mark.parametrize("recursive", ["false", "true"])
async def test_deleting_what_is_missing_is_not_found(
    agent: Agent, recursive: str
) -> None:
    async with agent.client.delete(
        agent.at("/files", "x", recursive=recursive)
    ) as response:
        assert await failure(response) == (404, "FILE_NOT_FOUND", "file not found: x")


async def test_the_root_is_never_deleted(agent: Agent) -> None:
    async with agent.client.delete(
        agent.at("/files", "/", recursive="true")
    ) as response:
        status, code, _ = await failure(response)

    assert (status, code) == (400, "INVALID_FILE_PATH")


async def test_a_long_listing_comes_in_blocks(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "BLOCK_ENTRIES", 10)
    monkeypatch.setattr(listing, "BATCH_ENTRIES", 3)
    names = [f"{number:03}" for number in range(101)]
    for name in names:
        (agent.work_dir / name).touch()

    async with agent.client.get(agent.at("/files")) as response:
        found = await response.json()
        assert response.headers["Transfer-Encoding"] == "chunked"
    async with agent.client.head(agent.at("/files")) as response:
        assert response.status == 200

    assert [entry["name"] for entry in found] == names


@pytest.fixture
def many() -> Iterator[Path]:
    """Give a directory of a hundred thousand entries, in memory where they are cheap."""
    memory = Path("/dev/shm")
    directory = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    fd = os.open(directory, os.O_RDONLY)
    for number in range(100_000):
        os.mknod(f"{number:06}", 0o644, dir_fd=fd)
    os.close(fd)
    yield directory
    delete(str(directory), recursive=True)


@pytest.mark.timeout(60)
async def test_a_listing_of_100000_entries_lets_others_through(
    agent: Agent, many: Path
) -> None:
    worst = 0.0
    running = True

    async def watch() -> None:
        nonlocal worst
        while running:
            # The time that this thread worked, so that a busy machine does not count.
            before = time.thread_time()
            await asyncio.sleep(0.001)
            worst = max(worst, time.thread_time() - before)

    watching = asyncio.create_task(watch())
    size = 0
    async with agent.client.get(agent.at("/files", many)) as response:
        async for chunk in response.content.iter_any():
            size += len(chunk)
    running = False
    await watching

    # Making the answer takes half a second; the client reads 25 MB in this loop too.
    assert worst < 0.1
    assert size > 100_000 * 200
