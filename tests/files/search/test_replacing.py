"""Replacing text in files: literally, as a whole, or not at all."""

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from agent.files.journal import Journal
from agent.files.paths import Paths
from agent.files.search import replacing as module
from agent.files.search.models import ReplaceResult
from agent.files.search.replacing import Replacing
from agent.files.writing import Upload
from agent.wire import UNSET
from tests.files.search.test_text import fill

Meanwhile = Callable[[], object]


class _Interrupted(Upload):
    """An upload during which something else happens."""

    meanwhile: Meanwhile = staticmethod(lambda: None)

    def open(self) -> None:
        super().open()
        self.meanwhile()


class Room:
    """What replaces, over a fresh directory."""

    def __init__(self, root: Path) -> None:
        self.root = root / "work"
        self.root.mkdir()
        self.meanwhile: Meanwhile = lambda: None
        paths, journal = Paths(str(self.root)), Journal(str(root / "state"))

        def upload(path: str) -> Upload:
            made = _Interrupted(paths, path, journal, str(root / "spool"))
            made.meanwhile = self.meanwhile
            return made

        self.replacing = Replacing(paths, upload, asyncio.Lock())

    async def replace(self, old: str, new: str, *files: str) -> list[ReplaceResult]:
        """Replace in files; none given: in `f`."""
        return await self.replacing.replace(files or ("f",), old, new)

    async def one(self, old: str, new: str) -> ReplaceResult:
        """Replace in `f`."""
        return (await self.replace(old, new))[0]


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    room = Room(tmp_path)
    yield room
    await room.replacing.aclose()
    left = [path for path in room.root.rglob("*") if path.name.startswith(".tbx-")]
    assert not left


async def test_every_occurrence_is_replaced_literally(room: Room) -> None:
    fill(room.root, {"f": b"a.b axb\r\n\xff\0a.b$1\\1"})

    assert (await room.one("a.b", r"\1$1")).success
    assert (room.root / "f").read_bytes() == b"\\1$1 axb\r\n\xff\0\\1$1$1\\1"


async def test_an_empty_new_value_deletes(room: Room) -> None:
    fill(room.root, {"f": b"aaaaa"})

    assert (await room.one("aa", "")).success
    assert (room.root / "f").read_bytes() == b"a"


async def test_a_file_without_a_match_is_not_touched(room: Room) -> None:
    fill(room.root, {"f": b"text"})
    path = room.root / "f"
    path.chmod(0o444)
    before = path.stat()

    assert (await room.one("none", "x")).success
    assert path.stat() == before or path.stat().st_mtime_ns == before.st_mtime_ns
    assert path.stat().st_ino == before.st_ino
    assert path.stat().st_ctime_ns == before.st_ctime_ns


async def test_mode_owner_and_attributes_are_kept(room: Room) -> None:
    fill(room.root, {"f": b"old"})
    path = room.root / "f"
    path.chmod(0o751)
    try:
        os.setxattr(path, "user.note", b"kept")
        noted = True
    except OSError:
        noted = False
    before = path.stat()

    assert (await room.one("old", "new")).success

    after = path.stat()
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(after.st_mode) == 0o751
    assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)
    assert not noted or os.getxattr(path, "user.note") == b"kept"


async def test_links_are_written_through(room: Room) -> None:
    fill(room.root, {"d/target": b"old"})
    (room.root / "f").symlink_to("d/target")

    assert (await room.one("old", "new")).success
    assert (room.root / "f").is_symlink()
    assert (room.root / "d/target").read_bytes() == b"new"


async def test_several_names_of_a_file_stay_one_file(room: Room) -> None:
    fill(room.root, {"f": b"old"})
    (room.root / "g").hardlink_to(room.root / "f")

    assert (await room.one("old", "longer than before")).success
    assert (room.root / "g").read_bytes() == b"longer than before"
    assert (room.root / "f").samefile(room.root / "g")


async def test_each_file_is_reported_in_the_order_asked(room: Room) -> None:
    fill(room.root, {"a": b"x", "d/f": b"x"})
    os.mkfifo(room.root / "fifo")
    (room.root / "loop").symlink_to("loop")
    files = ["d", "a", "missing", "a", "fifo", "loop", "a/b", "nul\0", "", "n" * 256]

    told = await room.replace("x", "xx", *files)

    assert [each.file for each in told] == files
    assert [each.success for each in told] == [each == "a" for each in files]
    errors = [each.error for each in told if not each.success]
    assert all(isinstance(error, str) and error for error in errors)
    assert errors[1] == "open missing: no such file or directory"
    assert told[1].error is UNSET
    assert (room.root / "a").read_bytes() == b"xxxx"


@pytest.mark.parametrize("how", ["append", "rename", "mode", "delete"])
async def test_a_file_changed_meanwhile_is_left_as_it_is(room: Room, how: str) -> None:
    fill(room.root, {"f": b"old", "other": b"another old"})
    path = room.root / "f"

    def change() -> None:
        if how == "append":
            with path.open("ab") as file:
                file.write(b" and old")
        elif how == "rename":
            (room.root / "other").rename(path)
        elif how == "mode":
            path.chmod(0o600)
        else:
            path.unlink()

    room.meanwhile = change
    told = await room.one("old", "new")

    assert not told.success
    if how == "delete":
        assert not path.exists()
    else:
        assert told.error == "file changed meanwhile"
        assert b"new" not in path.read_bytes()


async def test_a_full_disk_leaves_the_old_content(room: Room) -> None:
    fill(room.root, {"f": b"old"})

    def full() -> None:
        raise OSError(28, "No space left on device")

    room.meanwhile = full
    told = await room.one("old", "new")

    assert (told.success, told.error) == (False, "write f: no space left on device")
    assert (room.root / "f").read_bytes() == b"old"


async def test_a_value_much_longer_than_the_text_takes_no_memory(room: Room) -> None:
    fill(room.root, {"f": b"x" * 100 + b"\n"})
    value = "y" * 500_000

    assert (await room.one("x", value)).success
    assert (room.root / "f").stat().st_size == 100 * 500_000 + 1


async def test_a_text_across_blocks_is_found(room: Room) -> None:
    block = module.BLOCK_BYTES
    content = b"-" * (block - 3) + b"needle" + b"-" * (block - 7) + b"needle"
    fill(room.root, {"f": content})

    assert (await room.one("needle", "pin")).success
    assert (room.root / "f").read_bytes() == content.replace(b"needle", b"pin")


async def test_what_is_closed_replaces_no_more(room: Room) -> None:
    fill(room.root, {"f": b"old"})
    room.meanwhile = room.replacing._stopping.set

    told = await room.one("old", "new")

    assert not told.success
    assert (room.root / "f").read_bytes() == b"old"


@given(
    st.text(alphabet="ab", max_size=60),
    st.text(alphabet="ab", min_size=1, max_size=4),
    st.text(alphabet="abc", max_size=5),
    st.integers(1, 7),
    st.sampled_from([0, 2**20]),
)
def test_blocks_make_no_difference(
    tmp_path_factory: pytest.TempPathFactory,
    text: str,
    old: str,
    new: str,
    block: int,
    grown: int,
) -> None:
    room = Room(tmp_path_factory.mktemp("replace"))
    fill(room.root, {"f": text.encode()})

    async def replace() -> None:
        assert (await room.one(old, new)).success
        await room.replacing.aclose()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK_BYTES", block)
        patch.setattr(module, "GROWN_MAX_BYTES", grown)
        asyncio.run(replace())

    assert (room.root / "f").read_text() == text.replace(old, new)
