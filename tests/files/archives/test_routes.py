"""Archives by the routes, against tar, zstd and unzip themselves."""

import asyncio
import io
import os
import stat
import struct
import subprocess
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.files.archives import placing
from agent.files.archives.archives import UNPACKING_MAX
from agent.web.server import DISPATCHER
from tests.files.archives.conftest import pack, unpack
from tests.files.conftest import Agent, settled, strays

FORMATS = ("tar", "tar.gz", "tar.zst", "zip")


def make_tree(root: Path, *, strange: bool = True) -> None:
    """Make a tree with something of every kind."""
    (root / "sub/empty").mkdir(parents=True)
    (root / "sub/script").write_text("#!/bin/sh\n")
    (root / "sub/script").chmod(0o750)
    (root / "big").write_bytes(os.urandom(700_001))
    (root / "none").touch()
    (root / ("n" * 150)).write_text("long")
    (root / "naïve ☃").write_text("name")
    (root / "link").symlink_to("sub/script")
    (root / "dangling").symlink_to("nowhere")
    if strange:
        Path(os.fsdecode(os.fsencode(root) + b"/\xff\xfe")).write_text("bytes")
    for path in (root / "sub/script", root / "big"):
        os.utime(path, (1_500_000_000, 1_500_000_000))
    (root / "sub/empty").chmod(0o555)
    os.utime(root / "sub/empty", (1_400_000_000, 1_400_000_000))


def seen(root: Path) -> dict[bytes, tuple[object, ...]]:
    """Return what a tree looks like."""
    found: dict[bytes, tuple[object, ...]] = {}
    for top, directories, files in os.walk(os.fsencode(root)):
        for name in directories + files:
            path = top + b"/" + name
            key = os.path.relpath(path, os.fsencode(root))
            status = os.lstat(path)
            if stat.S_ISLNK(status.st_mode):
                found[key] = ("link", str(Path(os.fsdecode(path)).readlink()))
            elif stat.S_ISDIR(status.st_mode):
                found[key] = ("directory", status.st_mode)
            else:
                content = Path(os.fsdecode(path)).read_bytes()
                found[key] = (content, status.st_mode, int(status.st_mtime) // 2)
    return found


def listed(directory: Path) -> list[str]:
    return sorted(each.name for each in directory.iterdir())


def run(*words: object) -> None:
    subprocess.run([str(each) for each in words], check=True, capture_output=True)


def untar(archive: Path, target: Path, suffix: str) -> None:
    target.mkdir()
    options = {"tar.gz": ["-z"], "tar.zst": ["--zstd"]}.get(suffix, [])
    if suffix == "zip":
        run("unzip", "-q", archive, "-d", target)
    else:
        run("tar", "-xpf", archive, "-C", target, *options)


@pytest.mark.parametrize("suffix", FORMATS)
async def test_the_programs_unpack_what_was_packed(
    agent: Agent, tmp_path: Path, suffix: str
) -> None:
    tree = agent.work_dir / "tree"
    # A zip has no way to say a name that is not UTF-8, nor its second.
    make_tree(tree, strange=suffix != "zip")
    archive = tmp_path / "archive"

    archive.write_bytes(await pack(agent, "tree", suffix))
    await asyncio.to_thread(untar, archive, tmp_path / "out", suffix)

    assert seen(tmp_path / "out") == seen(tree)


@pytest.mark.parametrize("suffix", FORMATS)
async def test_what_was_packed_is_unpacked_as_it_was(agent: Agent, suffix: str) -> None:
    tree = agent.work_dir / "tree"
    make_tree(tree, strange=suffix != "zip")

    status, answer = await unpack(agent, "out", await pack(agent, "tree", suffix))

    assert (status, answer["skipped"], answer["skippedCount"]) == (200, [], 0)
    assert answer["entries"] == len(seen(tree))
    assert answer["bytes"] == sum(
        len(each[0]) for each in seen(tree).values() if isinstance(each[0], bytes)
    )
    assert seen(agent.work_dir / "out") == seen(tree)
    assert (agent.work_dir / "out/sub/empty").stat().st_mtime == (
        (tree / "sub/empty").stat().st_mtime
    )


@pytest.mark.parametrize("suffix", FORMATS)
async def test_what_the_programs_pack_is_unpacked(
    agent: Agent, tmp_path: Path, suffix: str
) -> None:
    tree, archive = tmp_path / "tree", tmp_path / "archive"
    make_tree(tree, strange=suffix != "zip")
    if suffix == "zip":
        await asyncio.to_thread(zip_tree, tree, archive)
    else:
        option = {"tar.gz": ["-z"], "tar.zst": ["--zstd"]}.get(suffix, [])
        words = ["tar", "-cf", archive, *option, "-C", tree, "."]
        await asyncio.to_thread(run, *words)

    status, answer = await unpack(agent, "out", archive.read_bytes(), format=suffix)

    assert (status, answer["skipped"]) == (200, [])
    assert seen(agent.work_dir / "out") == seen(tree)


def zip_tree(tree: Path, archive: Path) -> None:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
        for path in sorted(tree.rglob("*")):
            status = path.lstat()
            name = str(path.relative_to(tree)) + "/" * stat.S_ISDIR(status.st_mode)
            entry = zipfile.ZipInfo(name, (2017, 7, 14, 2, 40, 0))
            entry.external_attr = status.st_mode << 16
            entry.create_system = 3
            content = b""
            if path.is_symlink():
                content = os.fsencode(path.readlink())
            elif path.is_file():
                content = path.read_bytes()
                os.utime(path, (1_500_000_000, 1_500_000_000))
            out.writestr(entry, content)


@pytest.mark.parametrize("suffix", FORMATS)
async def test_the_same_tree_makes_the_same_bytes(agent: Agent, suffix: str) -> None:
    make_tree(agent.work_dir / "tree")

    assert await pack(agent, "tree", suffix) == await pack(agent, "tree/", suffix)


async def test_a_single_file_is_packed_under_its_name(agent: Agent) -> None:
    (agent.work_dir / "file").write_text("content")
    (agent.work_dir / "link").symlink_to("file")

    archive = await pack(agent, "link", "tar")

    with tarfile.open(fileobj=io.BytesIO(archive)) as found:
        assert found.getnames() == ["link"]
        content = found.extractfile("link")
        assert content is not None
        assert content.read() == b"content"


async def test_what_is_no_file_is_left_out_and_noted(agent: Agent) -> None:
    os.mkfifo(agent.work_dir / "pipe")
    (agent.work_dir / "file").touch()

    tar = await pack(agent, ".", "tar.gz")
    zipped = await pack(agent, ".", "zip")

    with tarfile.open(fileobj=io.BytesIO(tar)) as found:
        assert found.getnames() == ["file", "."]
        note = found.getmembers()[-1].pax_headers["comment"]
        assert note.startswith("left out: 1\npipe: ")
    with zipfile.ZipFile(io.BytesIO(zipped)) as other:
        assert other.namelist() == ["file"]
        assert other.comment.startswith(b"left out: 1\npipe: ")


async def test_the_answer_says_what_it_is(agent: Agent) -> None:
    (agent.work_dir / "naïve").mkdir()
    url = agent.at("/files/archive", "naïve", format="tar.zst")

    async with agent.client.head(url) as answer:
        assert answer.status == 200
        assert answer.content_type == "application/zstd"
        named = answer.headers["Content-Disposition"]
        assert named == "attachment; filename*=utf-8''na%C3%AFve.tar.zst"
    async with agent.client.get(agent.at("/files/archive", "none")) as answer:
        assert answer.status == 404
    async with agent.client.get(
        agent.at("/files/archive", "naïve", format="rar")
    ) as answer:
        assert answer.status == 400


def tar_of(*entries: tarfile.TarInfo, content: bytes = b"") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for each in entries:
            each.size = len(content) if each.isreg() else 0
            archive.addfile(each, io.BytesIO(content))
    return out.getvalue()


def entry(
    name: str, kind: bytes = tarfile.REGTYPE, target: str = ""
) -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type, found.linkname, found.mode = kind, target, 0o644
    return found


EXPLOITS = {
    "up": [entry("../evil")],
    "up-inside": [entry("a/../../evil")],
    "absolute": [entry("/tmp/toolbox-test-evil")],
    "link-up": [entry("l", tarfile.SYMTYPE, ".."), entry("l/evil")],
    "link-absolute": [entry("l", tarfile.SYMTYPE, "/tmp"), entry("l/evil")],
    "link-by-link": [
        entry("a/b/y", tarfile.SYMTYPE, "../.."),
        entry("x", tarfile.SYMTYPE, "a/b/y/../evil"),
        entry("x"),
    ],
    "link-as-parent": [entry("l", tarfile.SYMTYPE, "d"), entry("l/evil")],
    "hard-link-up": [entry("h", tarfile.LNKTYPE, "../outside")],
    "hard-link-absolute": [entry("h", tarfile.LNKTYPE, "/etc/passwd")],
    "hard-link-to-what-was-there": [entry("h", tarfile.LNKTYPE, "there")],
    "device": [entry("d", tarfile.CHRTYPE)],
    "block-device": [entry("d", tarfile.BLKTYPE)],
    "pipe": [entry("p", tarfile.FIFOTYPE)],
    "too-long": [entry("n" * 300)],
    "too-deep": [entry("d/" * 300 + "f")],
}


@pytest.mark.parametrize("name", EXPLOITS)
async def test_nothing_leaves_the_directory(agent: Agent, name: str) -> None:
    out = agent.work_dir / "out"
    out.mkdir()
    (out / "there").write_text("mine")
    (agent.work_dir / "outside").write_text("outside")

    status, answer = await unpack(agent, "out", tar_of(*EXPLOITS[name], content=b"x"))

    assert status == 200
    assert answer["skippedCount"] >= 1
    assert listed(agent.work_dir) == ["out", "outside"]
    assert (agent.work_dir / "outside").read_text() == "outside"
    assert (agent.work_dir / "outside").stat().st_nlink == 1
    for path in out.rglob("*"):
        assert path.is_symlink() or path.is_file() or path.is_dir()
        assert path.resolve().is_relative_to(out) or name == "link-by-link"


async def test_links_planted_before_are_not_followed(agent: Agent) -> None:
    out, victim = agent.work_dir / "out", agent.work_dir / "victim"
    out.mkdir()
    victim.mkdir()
    (victim / "file").write_text("old")
    (out / "dir").symlink_to(victim)
    (out / "file").symlink_to(victim / "file")

    status, answer = await unpack(
        agent, "out", tar_of(entry("dir/evil"), entry("file"), content=b"new")
    )

    assert (status, answer["entries"], answer["skippedCount"]) == (200, 1, 1)
    assert listed(victim) == ["file"]
    assert (victim / "file").read_text() == "old"
    assert not (out / "file").is_symlink()
    assert (out / "file").read_text() == "new"


async def test_links_that_stay_inside_are_made(agent: Agent) -> None:
    archive = tar_of(
        entry("a/file"),
        entry("b/link", tarfile.SYMTYPE, "../a/file"),
        entry("hard", tarfile.LNKTYPE, "a/file"),
        content=b"x",
    )

    status, answer = await unpack(agent, "out", archive)

    out = agent.work_dir / "out"
    assert (status, answer["skipped"]) == (200, [])
    assert (out / "b/link").read_text() == "x"
    assert (out / "hard").stat().st_ino == (out / "a/file").stat().st_ino


async def test_a_zip_cannot_leave_the_directory_either(agent: Agent) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("../evil", "x")
        archive.writestr("/tmp/toolbox-test-evil", "x")
        link = zipfile.ZipInfo("l")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        link.create_system = 3
        archive.writestr(link, "..")
        archive.writestr("l/evil", "x")

    status, answer = await unpack(agent, "out", out.getvalue())

    # The last is a directory of its own, because the link was not made.
    assert (status, answer["entries"], answer["skippedCount"]) == (200, 1, 3)
    assert listed(agent.work_dir) == ["out"]
    assert "toolbox-test-evil" not in listed(Path("/tmp"))


async def test_existing_files_are_replaced_and_the_rest_stays(agent: Agent) -> None:
    out = agent.work_dir / "out"
    out.mkdir()
    (out / "file").write_text("old")
    (out / "other").write_text("stays")
    (out / "taken").mkdir()
    with (out / "file").open() as held:
        archive = tar_of(entry("file"), entry("taken"), content=b"new")
        status, answer = await unpack(agent, "out", archive)

        assert held.read() == "old"
    assert (status, answer["entries"], answer["skippedCount"]) == (200, 1, 1)
    assert (out / "file").read_text() == "new"
    assert (out / "other").read_text() == "stays"


@pytest.mark.parametrize("suffix", FORMATS)
async def test_a_cut_archive_is_refused_wherever_it_is_cut(
    agent: Agent, suffix: str
) -> None:
    tree = agent.work_dir / "tree"
    tree.mkdir()
    for name in "abc":
        (tree / name).write_bytes(os.urandom(3000))
    whole = await pack(agent, "tree", suffix)
    # A tar's end is a kilobyte of nothing, of which half says all.
    last = len(whole) - (600 if suffix == "tar" else 1)

    for at in range(0, last, last // 17):
        status, answer = await unpack(agent, "out", whole[:at])
        assert status == 400, at
        assert "archive" in answer["message"]
        assert "entries were unpacked before" in answer["message"]
        assert not strays(agent.work_dir)


@pytest.mark.parametrize("suffix", ["tar.gz", "tar.zst", "zip"])
async def test_a_corrupt_archive_is_refused(agent: Agent, suffix: str) -> None:
    tree = agent.work_dir / "tree"
    tree.mkdir()
    (tree / "a").write_bytes(os.urandom(100_000))
    whole = bytearray(await pack(agent, "tree", suffix))
    whole[50_000] ^= 0xFF

    status, answer = await unpack(agent, "out", bytes(whole))

    assert status == 400
    assert "archive" in answer["message"]
    assert not (agent.work_dir / "out/a").exists()


def octal_bomb() -> bytes:
    """Return a header that claims an extended header of eight gigabytes."""
    head = bytearray(entry("x").tobuf(tarfile.USTAR_FORMAT))
    head[156:157] = b"x"
    head[124:136] = b"77777777777\0"
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head)


@pytest.mark.parametrize(
    ("archive", "status"),
    [
        (b"", 400),
        (b"\0" * 1024, 200),
        (b"not a tar" * 100, 400),
        (b"\x1f\x8b" + b"x" * 100, 400),
        (octal_bomb(), 413),
        (octal_bomb()[:124] + b"\xff" * 12 + octal_bomb()[136:], 400),
        (b"PK\x03\x04" + b"x" * 100, 400),
        (b"PK\x05\x06" + b"\0" * 18, 200),
    ],
)
async def test_what_is_no_archive_is_refused(
    agent: Agent, archive: bytes, status: int
) -> None:
    assert (await unpack(agent, "out", archive))[0] == status


async def test_a_bomb_is_stopped(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placing, "RATIO_FREE_BYTES", 1024 * 1024)
    archive = zlib.compress(
        tar_of(entry("zeros"), content=bytes(16 * 1024 * 1024)), 9, 31
    )

    status, answer = await unpack(agent, "out", archive)

    assert status == 413
    assert "times its own size" in answer["message"]
    assert listed(agent.work_dir / "out") == []


async def test_entries_are_bounded(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placing, "ENTRIES_MAX", 2)

    status, answer = await unpack(
        agent, "out", tar_of(*(entry(name) for name in "abc"))
    )

    assert (status, listed(agent.work_dir / "out")) == (429, ["a", "b"])
    assert "2 entries were unpacked before" in answer["message"]


@pytest.mark.parametrize("suffix", FORMATS)
async def test_a_client_that_leaves_half_way_leaves_whole_files_only(
    agent: Agent, suffix: str
) -> None:
    tree = agent.work_dir / "tree"
    tree.mkdir()
    (tree / "a").write_bytes(b"whole")
    (tree / "b").write_bytes(os.urandom(3_000_000))
    archive = await pack(agent, "tree", suffix)
    out = agent.work_dir / "out"
    out.mkdir()
    (out / "b").write_bytes(b"old")
    url = agent.at("/files/extract", "out")
    head = agent.head("POST", url, Content_Length=len(archive))

    # One after the other, so that each would keep a place that the next one needs.
    for _ in range(UNPACKING_MAX + 1):
        async with agent.connection() as (_, writer):
            writer.write(head + archive[:2_000_000])
            await writer.drain()
            if suffix != "zip":
                await settled(lambda: strays(out))
        await settled(lambda: agent.app[DISPATCHER].in_flight == 0)

    assert await asyncio.to_thread(strays, out) == []
    assert (out / "b").read_bytes() == b"old"
    assert listed(out) == (["b"] if suffix == "zip" else ["a", "b"])
    status, answer = await unpack(agent, "out", archive)
    assert (status, answer["entries"]) == (200, 2)


@pytest.fixture
def small_disk(agent: Agent) -> Iterator[Path]:
    """Give a file system of 1 MiB, below the work dir."""
    disk = agent.work_dir / "disk"
    disk.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk)
    yield disk
    run("umount", disk)


@pytest.mark.root
@pytest.mark.parametrize("suffix", FORMATS)
async def test_a_full_disk_keeps_the_old_file_and_those_before_it(
    agent: Agent, small_disk: Path, suffix: str
) -> None:
    tree = agent.work_dir / "tree"
    tree.mkdir()
    (tree / "a").write_bytes(b"fits")
    (tree / "b").write_bytes(bytes(5_000_000))
    (tree / "c").write_bytes(b"never reached")
    (small_disk / "b").write_bytes(b"old")

    status, answer = await unpack(agent, "disk", await pack(agent, "tree", suffix))

    assert (status, answer["code"]) == (507, "INSUFFICIENT_STORAGE")
    assert answer["message"] == (
        "no space left on device: b; 1 entries were unpacked before"
    )
    assert listed(small_disk) == ["a", "b"]
    assert (small_disk / "a").read_bytes() == b"fits"
    assert (small_disk / "b").read_bytes() == b"old"


@pytest.mark.root
async def test_a_disk_that_cannot_take_a_zip_stays_as_it_was(
    agent: Agent, small_disk: Path
) -> None:
    (agent.work_dir / "a").write_bytes(os.urandom(5_000_000))

    status, answer = await unpack(agent, "disk", await pack(agent, "a", "zip"))

    assert (status, answer["code"]) == (507, "INSUFFICIENT_STORAGE")
    assert answer["message"] == (
        "no space left on device: disk; 0 entries were unpacked before"
    )
    assert listed(small_disk) == []


async def test_a_client_that_leaves_a_download_leaves_nothing_open(
    agent: Agent,
) -> None:
    (agent.work_dir / "big").write_bytes(os.urandom(30_000_000))
    async with agent.connection() as (reader, writer):
        writer.write(agent.head("GET", agent.at("/files/archive", ".", format="tar")))
        await reader.readuntil(b"\r\n\r\n")
    # What the fixture looks for at the end: no descriptor is left.


async def test_a_file_that_shrinks_breaks_the_connection(agent: Agent) -> None:
    big = agent.work_dir / "big"
    big.write_bytes(bytes(50_000_000))
    async with agent.connection() as (reader, writer):
        writer.write(agent.head("GET", agent.at("/files/archive", ".", format="tar")))
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.to_thread(os.truncate, big, 1_000_000)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(50_000_000)


async def test_a_zip_with_a_huge_table_is_refused(agent: Agent) -> None:
    size = 20 * 1024 * 1024
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, size, 0, 0)

    status, answer = await unpack(
        agent, "out", io.BytesIO(b"PK\x01\x02" + bytes(size - 4) + end)
    )

    assert status == 413
    assert "table of contents" in answer["message"]
