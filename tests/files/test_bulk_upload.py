"""Bulk uploads in the byte forms of every official client."""

import asyncio
import io
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from agent.files.uploads import PATH_MAX_BYTES
from agent.web.server import DISPATCHER

from .conftest import Agent, read_or_reset, settled, strays

pytestmark = pytest.mark.usefixtures("any_receiver")

TYPE = "multipart/form-data; boundary=XX"
END = b"--XX--\r\n"


def path_part(index: object, path: bytes, extra: str = "") -> bytes:
    head = f'--XX\r\nContent-Disposition: form-data; name="files[{index}].path"\r\n{extra}\r\n'
    return head.encode() + path + b"\r\n"


def file_part(index: object, content: bytes, filename: str = "ignored") -> bytes:
    head = (
        f'--XX\r\nContent-Disposition: form-data; name="files[{index}].file"; '
        f'filename="{filename}"\r\nContent-Type: text/plain\r\n\r\n'
    )
    return head.encode() + content + b"\r\n"


async def post(agent: Agent, body: bytes, content_type: str = TYPE) -> tuple[int, Any]:
    async with agent.client.post(
        agent.at("/files/bulk-upload"),
        data=io.BytesIO(body),
        headers={"Content-Type": content_type},
    ) as response:
        assert response.headers["Content-Type"] == "application/json; charset=utf-8"
        return response.status, await response.json()


def told(status: int, answer: dict[str, Any], *errors: str) -> None:
    """Check an answer that tells of failures, the envelope included."""
    assert answer["errors"] == list(errors)
    assert answer["statusCode"] == status
    assert answer["message"] == ", ".join(errors)
    assert answer["source"] == "DAYTONA_DAEMON"
    assert answer["code"] == {400: "BAD_REQUEST", 507: "INSUFFICIENT_STORAGE"}[status]
    assert answer["path"] == "/files/bulk-upload"
    assert answer["method"] == "POST"
    assert answer["timestamp"].endswith("Z")


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def unmount(directory: Path) -> None:
    subprocess.run(["umount", directory], check=True)


async def test_the_order_of_the_sync_clients_all_paths_first(agent: Agent) -> None:
    first, second = agent.work_dir / "a b.txt", agent.work_dir / "sub/é.txt"
    body = (
        path_part(0, os.fsencode(first))
        + path_part(1, os.fsencode(second))
        + file_part(0, b"one", str(first))
        + file_part(1, b"", str(second))
        + END
    )

    answer = await post(agent, body)

    assert answer == (
        200,
        {
            "files": [
                {"path": str(first), "bytes": 3},
                {"path": str(second), "bytes": 0},
            ]
        },
    )
    assert (first.read_bytes(), second.read_bytes()) == (b"one", b"")


async def test_the_order_of_the_async_client_pairs_with_type_first(
    agent: Agent,
) -> None:
    parts = b""
    for index, name in enumerate(("x.bin", "y.bin")):
        parts += (
            f"--XX\r\nContent-Type: text/plain; charset=utf-8\r\n"
            f'Content-Disposition: form-data; name="files[{index}].path"\r\n\r\n{name}\r\n'
            f"--XX\r\nContent-Type: application/octet-stream\r\n"
            f'Content-Disposition: form-data; name="files[{index}].file"; '
            f"filename=\"%2Ftmp%2F{name}\"; filename*=utf-8''%2Ftmp%2F{name}\r\n\r\n"
            f"data{index}\r\n"
        ).encode()

    answer = await post(agent, parts + END)

    assert answer == (
        200,
        {"files": [{"path": "x.bin", "bytes": 5}, {"path": "y.bin", "bytes": 5}]},
    )
    assert (agent.work_dir / "y.bin").read_bytes() == b"data1"


async def test_the_stream_client_sends_chunks_of_unknown_length(agent: Agent) -> None:
    content = os.urandom(2_500_000)
    body = path_part(0, b"s.bin") + file_part(0, content, "_s_.bin") + END
    head = agent.head(
        "POST",
        agent.at("/files/bulk-upload"),
        Transfer_Encoding="chunked",
        Content_Type=TYPE,
    )

    async with agent.connection() as (reader, writer):
        writer.write(head)
        for start in range(0, len(body), 65_536):
            part = body[start : start + 65_536]
            writer.write(b"%x\r\n%s\r\n" % (len(part), part))
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        answer = await reader.readuntil(b"}]}")

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert (agent.work_dir / "s.bin").read_bytes() == content


async def test_indexes_are_any_digits_in_any_order(agent: Agent) -> None:
    body = (
        path_part(7, b"seven")
        + path_part("000000000000003", b"three")
        + file_part(3, b"3")
        + file_part(7, b"7")
        + END
    )

    status, answer = await post(agent, body)

    assert status == 200
    assert [each["path"] for each in answer["files"]] == ["three", "seven"]


async def test_paths_are_trimmed_and_echoed(agent: Agent) -> None:
    status, answer = await post(
        agent, path_part(0, b"  ./d/../a.txt \r\n") + file_part(0, b"x") + END
    )

    assert (status, answer["files"]) == (200, [{"path": "./d/../a.txt", "bytes": 1}])
    assert (agent.work_dir / "a.txt").read_bytes() == b"x"


async def test_a_path_of_raw_bytes_names_that_file(agent: Agent) -> None:
    status, answer = await post(
        agent, path_part(0, b"\xff.txt") + file_part(0, b"x") + END
    )

    assert (status, answer["files"][0]["path"]) == (200, "\ufffd.txt")
    assert (agent.work_dir / os.fsdecode(b"\xff.txt")).exists()


@pytest.mark.parametrize("body", [END, b'--XX\r\nContent-Disposition: form-data; name="other"\r\n\r\nx\r\n' + END])  # fmt: skip
async def test_no_files_at_all_is_a_success(agent: Agent, body: bytes) -> None:
    assert await post(agent, body) == (200, {"files": []})


@pytest.mark.parametrize("name", ["other", "files[x].path", "files[].file", "files[-1].file", "files[0]", "files[0].pathx", "files[" + "9" * 19 + "].file"])  # fmt: skip
async def test_unknown_parts_are_skipped_silently(agent: Agent, name: str) -> None:
    unknown = (
        f'--XX\r\nContent-Disposition: form-data; name="{name}"\r\n\r\nx\r\n'.encode()
    )

    answer = await post(
        agent,
        unknown + path_part(0, b"a") + unknown + file_part(0, b"x") + unknown + END,
    )

    assert answer == (200, {"files": [{"path": "a", "bytes": 1}]})


@pytest.mark.parametrize(
    "content_type", ["application/json", "", "multipart/form-data", "multipart/mixed; boundary=XX"]
)  # fmt: skip
async def test_what_is_no_form_is_told(agent: Agent, content_type: str) -> None:
    status, answer = await post(agent, b"{}", content_type or "text/plain")

    assert status == 400
    told(400, answer, "invalid multipart form")
    assert answer["files"] == []


async def test_each_problem_is_told_and_the_others_are_stored(agent: Agent) -> None:
    (agent.work_dir / "d").mkdir()
    (agent.work_dir / "file").touch()
    os.mkfifo(agent.work_dir / "fifo")
    body = (
        path_part(0, b"first")
        + file_part(0, b"1")
        + path_part(1, b" \t ")
        + file_part(1, b"no path")
        + file_part(3, b"never had one")
        + path_part(4, b"d")
        + file_part(4, b"a directory" * 300_000)
        + path_part(5, b"file/below")
        + file_part(5, b"x")
        + path_part(6, b"/dev/full")
        + file_part(6, b"x" * 2_000_000)
        + path_part(7, b"fifo")
        + file_part(7, b"x")
        + path_part(8, b"nul\0")
        + file_part(8, b"x")
        + path_part(9, b"p" * (PATH_MAX_BYTES + 1))
        + file_part(9, b"x")
        + path_part(10, b"last")
        + file_part(10, b"2")
        + END
    )

    status, answer = await post(agent, body)

    assert status == 400
    told(
        400,
        answer,
        "path[1]: empty path",
        "file[1]: missing .path metadata",
        "file[3]: missing .path metadata",
        "d: create: is a directory",
        "file/below: create: not a directory",
        "/dev/full: write: no space left on device",
        "fifo: create: invalid file path: not a regular file: fifo",
        "nul\0: create: invalid file path: it contains a NUL byte",
        "path[9]: path too long",
        "file[9]: missing .path metadata",
    )
    assert answer["files"] == [
        {"path": "first", "bytes": 1},
        {"path": "last", "bytes": 1},
    ]
    assert (agent.work_dir / "last").read_bytes() == b"2"


async def test_only_full_disks_are_told_as_such(agent: Agent) -> None:
    full = path_part(0, b"/dev/full") + file_part(0, b"x")
    bad = path_part(1, b"/dev/null/x") + file_part(1, b"x")

    status, answer = await post(agent, full + END)
    assert status == 507
    told(507, answer, "/dev/full: write: no space left on device")

    status, _ = await post(agent, full + bad + END)
    assert status == 400


@pytest.mark.root
async def test_a_parent_that_cannot_be_made_is_told(agent: Agent) -> None:
    disk = agent.work_dir / "ro"
    disk.mkdir()
    await asyncio.to_thread(mount, "-t", "tmpfs", "-o", "ro", "tmpfs", str(disk))
    try:
        status, answer = await post(
            agent, path_part(0, b"ro/a/b") + file_part(0, b"x") + END
        )
    finally:
        await asyncio.to_thread(unmount, disk)

    assert status == 400
    told(400, answer, f"ro/a/b: mkdir {disk}/a: read-only file system")


@pytest.fixture
def small_disk(agent: Agent) -> Iterator[Path]:
    disk = agent.work_dir / "disk"
    disk.mkdir()
    mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk))
    yield disk
    unmount(disk)


@pytest.mark.root
async def test_a_full_disk_keeps_the_old_content(
    agent: Agent, small_disk: Path
) -> None:
    (small_disk / "old").write_bytes(b"old" * 1000)
    body = b"".join(
        path_part(index, f"disk/{name}".encode()) + file_part(index, b"x" * size)
        for index, (name, size) in enumerate(
            [("old", 5_000_000), ("fits", 1000), ("new", 5_000_000)]
        )
    )

    status, answer = await post(agent, body + END)

    assert status == 507
    told(
        507,
        answer,
        "disk/old: write: no space left on device",
        "disk/new: write: no space left on device",
    )
    assert (small_disk / "old").read_bytes() == b"old" * 1000
    assert sorted(os.listdir(small_disk)) == ["fits", "old"]  # noqa: PTH208


async def test_what_came_before_a_broken_end_is_stored(agent: Agent) -> None:
    (agent.work_dir / "b").write_bytes(b"old")
    body = (
        path_part(0, b"a")
        + file_part(0, b"1")
        + path_part(1, b"b")
        + file_part(1, b"2")
    )

    status, answer = await post(agent, body[:-2])

    assert status == 400
    told(400, answer, "reading part: malformed multipart form: it ends too early")
    assert answer["files"] == [{"path": "a", "bytes": 1}]
    assert (agent.work_dir / "b").read_bytes() == b"old"


async def test_junk_stops_the_reading(agent: Agent) -> None:
    body = path_part(0, b"a") + file_part(0, b"1") + b"--XX\r\nbad@: x\r\n\r\n" + END

    status, answer = await post(agent, body)

    assert status == 400
    assert len(answer["errors"]) == 1
    assert answer["errors"][0].startswith("reading part: malformed multipart form: ")
    assert answer["files"] == [{"path": "a", "bytes": 1}]


async def test_malformed_chunks_are_a_broken_body(agent: Agent) -> None:
    head = agent.head(
        "POST",
        agent.at("/files/bulk-upload"),
        Transfer_Encoding="chunked",
        Content_Type=TYPE,
    )
    # The file is whole only once the next boundary is there.
    first = path_part(0, b"a") + file_part(0, b"1") + b"--XX\r\n"

    async with agent.connection() as (reader, writer):
        writer.write(head + b"%x\r\n%s\r\n" % (len(first), first))
        await settled((agent.work_dir / "a").exists)
        writer.write(b"zz\r\n")
        answer = await read_or_reset(reader)

    assert answer.startswith(b"HTTP/1.1 400 ")
    body = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert body["errors"] == ["reading part: malformed request body"]
    assert body["files"] == [{"path": "a", "bytes": 1}]


async def test_a_file_sent_twice_is_stored_twice(agent: Agent) -> None:
    body = path_part(0, b"a") + file_part(0, b"first") + file_part(0, b"second") + END

    status, answer = await post(agent, body)

    assert (status, len(answer["files"])) == (200, 2)
    assert (agent.work_dir / "a").read_bytes() == b"second"


@pytest.mark.parametrize("reset", [True, False])
async def test_a_cut_at_any_byte_leaves_old_or_new_files_whole(
    agent: Agent, reset: bool
) -> None:
    body = (
        path_part(0, b"a")
        + file_part(0, b"new")
        + path_part(1, b"b")
        + file_part(1, b"new")
    )
    body += END
    head = agent.head(
        "POST",
        agent.at("/files/bulk-upload"),
        Content_Length=len(body),
        Content_Type=TYPE,
    )
    for cut in range(0, len(body), 3):
        for name in ("a", "b"):
            (agent.work_dir / name).write_bytes(b"old")
        async with agent.connection() as (reader, writer):
            writer.write(head + body[:cut])
            await writer.drain()
            if reset:
                writer.transport.abort()
            else:
                writer.write_eof()
                answer = await read_or_reset(reader)
                assert not answer.startswith(b"HTTP/1.1 200")
        await settled(lambda: agent.app[DISPATCHER].in_flight == 0)

        contents = {(agent.work_dir / name).read_bytes() for name in ("a", "b")}
        assert contents <= {b"old", b"new"}
    assert strays(agent.work_dir) == []


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    contents=st.lists(st.binary(max_size=3000), max_size=5),
    order=st.randoms(),
    cuts=st.lists(st.integers(1, 2000), min_size=1, max_size=8),
)
async def test_any_order_with_the_path_first_stores_every_file(
    agent: Agent, contents: list[bytes], order: Any, cuts: list[int]
) -> None:
    parts = [
        part
        for index, content in enumerate(contents)
        for part in (("path", index, b""), ("file", index, content))
    ]
    # Any order in which each path precedes its file.
    order.shuffle(parts)
    seen: set[int] = set()
    body = b""
    for kind, index, content in sorted(
        parts, key=lambda each: each[0] == "file" and order.random() < 0.5
    ):
        if kind == "path" and index not in seen:
            seen.add(index)
            body += path_part(index, f"f{index}".encode())
        elif kind == "file":
            if index not in seen:
                seen.add(index)
                body += path_part(index, f"f{index}".encode())
            body += file_part(index, content)
    body += END

    async def pieces() -> Any:
        position = 0
        while position < len(body):
            size = cuts[position % len(cuts)]
            yield body[position : position + size]
            position += size

    async with agent.client.post(
        agent.at("/files/bulk-upload"), data=pieces(), headers={"Content-Type": TYPE}
    ) as response:
        answer = await response.json()

    assert response.status == 200
    stored = {each["path"]: each["bytes"] for each in answer["files"]}
    assert stored == {
        f"f{index}": len(content) for index, content in enumerate(contents)
    }
    for index, content in enumerate(contents):
        assert (agent.work_dir / f"f{index}").read_bytes() == content
