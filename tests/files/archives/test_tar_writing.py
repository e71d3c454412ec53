"""Headers of a tar against those of the library."""

import os
import stat
import tarfile

from hypothesis import example, given, strategies as st

from agent.files.archives.tar_writing import NUMBER_MAX, TarWriter

NAMES = st.text(
    st.one_of(st.sampled_from("abc/. "), st.characters(exclude_categories=["Cs"])),
    min_size=1,
    max_size=130,
).filter(lambda name: "\0" not in name and not name.endswith("/"))
NUMBERS = st.integers(0, 2**33)


def status_of(mode: int, uid: int, gid: int, size: int, mtime: float) -> os.stat_result:
    return os.stat_result((mode, 1, 1, 1, uid, gid, size, 0.0, mtime, 0.0))


def expected(
    name: str, status: os.stat_result, kind: bytes, *, size: int = 0, target: str = ""
) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.mode = stat.S_IMODE(status.st_mode)
    entry.uid, entry.gid = status.st_uid, status.st_gid
    entry.type, entry.size, entry.linkname = kind, size, target
    entry.mtime = int(status.st_mtime)
    return entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


@given(name=NAMES, mode=st.integers(0, 0o7777), uid=NUMBERS, gid=NUMBERS,
       size=st.integers(0, 2 * NUMBER_MAX), mtime=st.integers(-(2**40), 2**40))  # fmt: skip
@example("n" * 100, 0o644, 0, 0, NUMBER_MAX - 1, NUMBER_MAX - 1)
@example("n" * 101, 0o644, 8**7 - 1, 8**7, NUMBER_MAX, NUMBER_MAX)
@example("n" * 99, 0o644, 0, 0, 0, 0)
def test_headers_are_those_of_the_library(
    name: str, mode: int, uid: int, gid: int, size: int, mtime: int
) -> None:
    status = status_of(stat.S_IFREG | mode, uid, gid, size, mtime)
    writer = TarWriter()

    assert writer.begin(name, status, size) == (
        expected(name, status, tarfile.REGTYPE, size=size)
    )
    assert writer.directory(name, status) == (
        expected(f"{name}/", status, tarfile.DIRTYPE)
    )
    assert writer.link(name, status, "to") == (
        expected(name, status, tarfile.SYMTYPE, target="to")
    )
