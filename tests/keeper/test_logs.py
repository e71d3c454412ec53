"""Where output is kept, byte for byte, whatever the bound and the disk."""

import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from agent.keeper.logs import (
    ALL_MEMORY_MAX_BYTES,
    INDEX,
    MEMORY_MAX_BYTES,
    Log,
    Memory,
    Ring,
    Run,
    Spool,
)
from agent.keeper.state import State, StateError

PIECES = st.lists(
    st.tuples(st.binary(max_size=60), st.sampled_from([1, 2])), max_size=30
)


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> State:
    state = State(str(tmp_path_factory.mktemp("logs") / "state"))
    state.open()
    return state


def log_of(state: State, name: str, bound: int) -> Log:
    path = state.spool_path(name)
    return Log(state, f"{path}.log", f"{path}.index", bound)


def read_all(log: Log | Ring, offset: int, limit: int) -> tuple[list[Run], bytes]:
    """Read to the end as a follower does."""
    log.hold()
    runs: list[Run] = []
    content = b""
    record = log.locate(offset) if offset < log.size else 0
    while offset < log.size:
        some, piece, record = log.read(offset, record, limit)
        assert some, "a read that finds nothing would be for ever"
        assert sum(run.size for run in some) == len(piece)
        runs += some
        content += piece
        offset = some[-1].offset + some[-1].size
    log.release()
    return runs, content


@given(PIECES, st.integers(0, 400), st.integers(0, 300), st.integers(1, 100))
def test_a_log_returns_what_was_written_from_any_offset(
    state: State, pieces: list[tuple[bytes, int]], bound: int, start: int, limit: int
) -> None:
    log = log_of(state, "one", bound)
    for piece, stream in pieces:
        log.append(memoryview(piece), stream)
    whole = b"".join(piece for piece, _ in pieces)
    streams = [stream for piece, stream in pieces for _ in piece]

    start = min(start, log.size)
    runs, content = read_all(log, start, limit)

    assert log.total == len(whole)
    assert log.size == min(bound, len(whole))
    assert log.dropped == len(whole) - log.size
    assert content == whole[start:bound]
    seen = [run.stream for run in runs for _ in range(run.size)]
    assert seen == streams[start:bound]
    log.remove()


@given(PIECES, st.integers(1, 200))
def test_a_follower_that_reads_between_writes_sees_the_same(
    state: State, pieces: list[tuple[bytes, int]], limit: int
) -> None:
    log = log_of(state, "live", 10_000)
    log.hold()
    content, offset, record = b"", 0, 0
    for piece, stream in pieces:
        log.append(memoryview(piece), stream)
        runs, some, record = log.read(offset, record, limit)
        content += some
        offset += len(some)
        assert all(run.stream in {1, 2} for run in runs)
    while offset < log.size:
        _, some, record = log.read(offset, record, limit)
        content += some
        offset += len(some)

    assert content == b"".join(piece for piece, _ in pieces)
    log.release()
    log.remove()


def test_a_choppy_log_is_read_in_bounded_steps(state: State) -> None:
    log = log_of(state, "choppy", 1 << 20)
    for i in range(5000):
        log.append(memoryview(b"%04d" % i), 1 + i % 2)

    for offset in (0, 3, 9999, 19_996):
        runs, content = read_all(log, offset, 1 << 20)
        assert content == b"".join(b"%04d" % i for i in range(5000))[offset:]
        assert [run.stream for run in runs][-1] == 2
    log.remove()


def test_the_index_has_a_bound_too(state: State) -> None:
    log = log_of(state, "index", 300_000)
    for i in range(40_000):
        log.append(memoryview(b"x"), 1 + i % 2)

    assert log.index_size <= 300_000 // 4
    runs, content = read_all(log, 0, 10_000)
    # What is stored is still told apart rightly; the rest is counted.
    assert [run.stream for run in runs for _ in range(run.size)][:4000:1000] == [1] * 4
    assert len(content) == log.size
    assert log.dropped == 40_000 - log.size > 0
    log.remove()


@given(st.lists(st.binary(max_size=90), max_size=30), st.integers(1, 500))
def test_a_spool_keeps_head_and_tail(
    state: State, pieces: list[bytes], bound: int
) -> None:
    spool = Spool(state, state.spool_path("spool"), bound, Memory())
    for piece in pieces:
        spool.append(memoryview(piece), 1)
    spool.seal()
    whole = b"".join(pieces)

    kept = whole
    if len(whole) > bound:
        tail = bound // 2
        kept = whole[: bound - tail] + (whole[-tail:] if tail else b"")
    assert stored(spool) == kept
    assert spool.total == len(whole)
    assert spool.dropped == len(whole) - len(kept)
    spool.remove()
    assert not os.path.lexists(state.spool_path("spool"))


def stored(spool: Spool) -> bytes:
    """Return what a spool holds, in the order of its writing."""
    if spool.in_memory is not None:
        return bytes(spool.in_memory)
    assert spool.path is not None
    whole = Path(spool.path).read_bytes()
    end = spool.size
    return whole[: spool.head] + (
        whole[spool.tail_start : end] + whole[spool.head : spool.tail_start]
    )


def test_all_short_outputs_together_have_a_bound_in_memory(state: State) -> None:
    memory = Memory()
    content = memoryview(b"x" * MEMORY_MAX_BYTES)
    count = ALL_MEMORY_MAX_BYTES // MEMORY_MAX_BYTES
    spools = []
    for i in range(count + 3):
        spool = Spool(state, state.spool_path(f"m{i}"), 1 << 20, memory)
        spool.append(content, 1)
        spools.append(spool)

    assert [spool.path is not None for spool in spools] == [False] * count + [True] * 3
    assert all(stored(spool) == content for spool in spools)
    for spool in spools:
        spool.remove()
    assert memory.used == 0


@given(st.lists(st.binary(max_size=50), max_size=20), st.integers(0, 500))
def test_a_ring_holds_the_end(pieces: list[bytes], start: int) -> None:
    ring = Ring(64)
    for piece in pieces:
        ring.append(memoryview(piece), 1)
    whole = b"".join(pieces)

    runs, content, _ = ring.read(start, 0, 1000)
    further, rest, _ = ring.read(max(start, ring.first_offset) + len(content), 0, 1000)

    oldest = max(0, len(whole) - 64)
    assert ring.first_offset == oldest
    # In two pieces where it goes over the ring's own end.
    assert bytes(content) + bytes(rest) == whole[max(start, oldest) :]
    assert [run.offset for run in runs] == [max(start, oldest)] * bool(content)
    assert [run.size for run in further] == [len(rest)] * bool(rest)


@pytest.fixture
def small_files() -> Iterator[None]:
    """Let no file grow past 1000 bytes, as a full quota would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.usefixtures("small_files")
def test_a_log_that_can_grow_no_more_drops_and_counts(state: State) -> None:
    log = log_of(state, "full", 1 << 20)
    for _ in range(30):
        log.append(memoryview(b"x" * 100), 1)

    assert (log.total, log.size, log.dropped) == (3000, 1000, 2000)
    assert read_all(log, 0, 5000)[1] == b"x" * 1000
    log.remove()


@pytest.mark.usefixtures("small_files")
def test_a_spool_without_a_disk_keeps_what_fits_in_memory(state: State) -> None:
    spool = Spool(state, state.spool_path("nodisk"), 1 << 20, Memory())
    spool.append(memoryview(b"a" * MEMORY_MAX_BYTES), 1)
    spool.append(memoryview(b"b" * 100), 1)

    assert spool.path is None
    assert stored(spool) == b"a" * MEMORY_MAX_BYTES
    assert spool.dropped == 100
    assert not os.path.lexists(state.spool_path("nodisk"))
    spool.remove()


def test_an_index_record_is_seventeen_bytes() -> None:
    # Written down in the state directory, so a change is a change of format.
    assert INDEX.size == 17
    assert INDEX.unpack(INDEX.pack(2**63, 1.5, 2)) == (2**63, 1.5, 2)


# -- the state directory ----------------------------------------------------------


def test_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")

    with pytest.raises(StateError, match="not a directory"):
        State(str(tmp_path / "state")).open()


@pytest.mark.root
def test_anothers_directory_is_refused(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("giving a directory away needs root")
    (tmp_path / "state").mkdir()
    os.chown(tmp_path / "state", 12345, 12345)

    with pytest.raises(StateError, match="another user"):
        State(str(tmp_path / "state")).open()


def test_a_directory_that_others_can_read_is_closed(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o755)

    State(str(tmp_path / "state")).open()

    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


def test_no_link_is_written_through(tmp_path: Path) -> None:
    state = State(str(tmp_path / "state"))
    state.open()
    (tmp_path / "target").write_text("untouched")
    path = state.spool_path("x.log")
    Path(path).symlink_to(tmp_path / "target")

    log = Log(state, path, state.spool_path("x.index"), 100)
    log.append(memoryview(b"bad"), 1)

    assert log.dropped == 3
    assert (tmp_path / "target").read_text() == "untouched"
    log.remove()
    assert (tmp_path / "target").read_text() == "untouched"


def test_only_so_many_lost_jobs_are_kept(tmp_path: Path) -> None:
    jobs = tmp_path / "state" / "jobs"
    jobs.mkdir(parents=True)
    for i in range(70):
        (jobs / f"old-{i}").mkdir()
        os.utime(jobs / f"old-{i}", (i, i))

    State(str(tmp_path / "state")).open()

    assert {path.name for path in jobs.iterdir()} == {f"old-{i}" for i in range(6, 70)}
