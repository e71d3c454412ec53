"""The keeper's journal of events, on real files."""

import contextlib
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from agent.keeper.errors import Refusal
from agent.keeper.events import WAITING_MAX_BYTES, Events, checked
from agent.keeper.loop import Loop
from agent.keeper.segments import SEGMENT_MIN_BYTES, Segments
from agent.keeper.state import State

SMALL = 2 * SEGMENT_MIN_BYTES


class Desk:
    """A journal, opened as a keeper does and read as an api does."""

    def __init__(self, root: Path, max_bytes: int = SMALL) -> None:
        self._root = root
        self._max_bytes = max_bytes
        self.directory = root / "events"
        self.loop = Loop()
        self.open()

    def open(self) -> None:
        """Open the journal, as a new keeper does."""
        state = State(str(self._root))
        segments = Segments(state, str(self.directory), self._max_bytes)
        self.events = Events(self.loop, segments)
        self.events.flush()

    def reopen(self) -> None:
        """End one keeper and begin another."""
        self.events.close()
        self.open()

    def tell(self, *sizes: int) -> None:
        """Tell events, each with so many bytes of facts."""
        for size in sizes:
            self.events.tell("test.told", {"filling": "x" * size})
        self.events.flush()

    def read(self, since: int = 0) -> list[dict[str, Any]]:
        """Return all events after a number, as a reader finds them block by block."""
        found: list[dict[str, Any]] = []
        place = None
        while True:
            block = self.events.read(since, place)
            for line in block.content.split(b"\n"):
                with contextlib.suppress(ValueError, TypeError, KeyError):
                    event = json.loads(line)
                    if event["type"] and event["id"] > since:
                        found.append(event)
                        since = event["id"]
            if not block.more:
                return found
            place = block.place

    def numbers(self, since: int = 0) -> list[int]:
        """Return the numbers of all events after a number."""
        return [event["id"] for event in self.read(since)]

    def files(self) -> list[Path]:
        """Return the files of the journal, oldest first."""
        return sorted(self.directory.iterdir(), key=lambda path: int(path.stem))

    def close(self) -> None:
        """Close everything."""
        self.events.close()
        self.loop.close()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    (tmp_path / "state").mkdir(mode=0o700)
    with contextlib.closing(Desk(tmp_path / "state")) as desk:
        yield desk


def span(first: int, last: int) -> list[int]:
    return list(range(first, last + 1))


# -- numbers and shape ------------------------------------------------------------


def test_an_event_has_number_time_type_and_facts(desk: Desk) -> None:
    desk.events.tell("command.ended", {"exitCode": 3})

    (event,) = desk.read()

    assert event["id"] == 1
    assert event["type"] == "command.ended"
    assert event["exitCode"] == 3
    assert event["time"].endswith("Z")
    assert isinstance(event["unixMs"], int)
    assert list(event)[:4] == ["id", "time", "unixMs", "type"]


def test_numbers_go_on_after_a_restart(desk: Desk) -> None:
    desk.tell(1, 1, 1)
    desk.reopen()
    desk.tell(1)

    assert desk.numbers() == [1, 2, 3, 4]


def test_a_reader_has_what_comes_after_its_number(desk: Desk) -> None:
    desk.tell(*[100] * 50)

    assert desk.numbers(since=37) == span(38, 50)
    assert desk.numbers(since=50) == []


def test_the_files_are_nobody_elses(desk: Desk) -> None:
    desk.tell(1)

    assert desk.directory.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in desk.files()} == {0o600}


def test_a_listener_is_told_at_the_end_of_the_turn(desk: Desk) -> None:
    told: list[tuple[int, int, bytes]] = []
    assert desk.events.follow(lambda *what: told.append(what)) == 0

    desk.events.tell("a.b", {})
    desk.events.tell("c.d", {})
    assert told == []
    desk.loop.turn()

    assert [(first, last) for first, last, _ in told] == [(1, 2)]
    assert [json.loads(each)["type"] for each in told[0][2].splitlines()] == [
        "a.b",
        "c.d",
    ]


def test_an_event_that_is_too_large_is_told_without_its_facts(desk: Desk) -> None:
    desk.tell(10_000)

    (event,) = desk.read()

    assert event["cut"] is True
    assert "filling" not in event


def test_names_that_are_no_text_are_made_readable(desk: Desk) -> None:
    desk.events.tell("a.b", {"name": "x\udcff", "names": ["\U0001f600", "\ud800"]})

    (event,) = desk.read()

    assert event["name"] == "x\ufffd"
    assert event["names"] == ["\U0001f600", "\ufffd"]


@pytest.mark.parametrize(
    "facts", [[], {"a": {"b": 1}}, {"a": [1]}, {"a": float("nan")}]
)
def test_facts_that_are_not_as_agreed_are_refused(facts: Any) -> None:
    with pytest.raises(Refusal):
        checked("a.b", facts)


def test_facts_do_not_replace_what_every_event_has() -> None:
    facts = checked("a.b", {"id": 7, "type": "x", "path": "p"})

    assert facts == {"path": "p"}


# -- bounds -----------------------------------------------------------------------


def test_the_oldest_half_goes_first(desk: Desk) -> None:
    desk.tell(*[1000] * 400)

    numbers = desk.numbers()

    assert numbers == span(numbers[0], 400)
    assert 1 < numbers[0] == desk.events.oldest
    assert len(desk.files()) == 2
    assert sum(path.stat().st_size for path in desk.files()) <= SMALL


def test_a_reader_whose_file_is_gone_goes_on_with_the_oldest(desk: Desk) -> None:
    desk.tell(*[1000] * 50)
    block = desk.events.read(0, None)
    desk.tell(*[1000] * 400)

    following = desk.events.read(50, block.place)

    first = json.loads(following.content.split(b"\n")[0])["id"]
    assert first == desk.events.oldest > 51


# -- junk -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "junk",
    [
        b'{"id":4,"time":"2026-',
        b'{"id":999999}',
        b"\0" * 5000,
        b"\0" * 200_000,
        b"\xff\xfe\n\n\n{}\n[1]\nnull",
    ],
)
def test_junk_at_the_end_is_stepped_over(desk: Desk, junk: bytes) -> None:
    desk.tell(1, 1, 1)
    with desk.files()[-1].open("ab") as file:
        file.write(junk)
    desk.reopen()
    before = desk.events.newest
    desk.tell(1, 1)

    assert desk.numbers()[:3] == [1, 2, 3]
    assert desk.numbers()[-2:] == [before + 1, before + 2]
    assert desk.numbers(since=before) == [before + 1, before + 2]


def test_a_file_of_junk_alone_does_no_harm(desk: Desk) -> None:
    desk.tell(1, 1)
    (desk.directory / "3.jsonl").write_bytes(os.urandom(100_000))
    (desk.directory / "not-ours").write_text("x")
    desk.reopen()
    desk.tell(1)

    assert desk.numbers() == [1, 2, 3]


def test_a_directory_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "state" / "events").symlink_to(tmp_path / "elsewhere")

    with contextlib.closing(Desk(tmp_path / "state")) as desk:
        desk.tell(1, 1)

        assert desk.numbers() == [1, 2]
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_directory_that_was_removed_is_made_again(desk: Desk) -> None:
    desk.tell(1)
    for path in desk.files():
        path.unlink()
    desk.directory.rmdir()

    desk.tell(*[1000] * 200)

    numbers = desk.numbers()
    assert numbers == span(numbers[0], 201)
    assert desk.files()


# -- full disks -------------------------------------------------------------------


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """Return a file system with little room."""
    place = tmp_path / "small"
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=256k,mode=700", "tmpfs", str(place)]
    subprocess.run(words, check=True)
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.mark.root
def test_with_a_full_disk_events_wait_in_memory(small: Path) -> None:
    with contextlib.closing(Desk(small)) as desk:
        desk.tell(1, 1)
        filler = small / "filler"
        fill(filler)
        desk.tell(*[1000] * 100)

        assert desk.numbers() == span(1, 102)
        assert desk.numbers(since=60) == span(61, 102)

        filler.unlink()
        desk.tell(1)
        assert desk.numbers() == span(1, 103)
        stored = b"".join(path.read_bytes() for path in desk.files())
        assert stored.count(b"\n") == 103


@pytest.mark.root
def test_what_falls_off_while_the_disk_is_full_is_told(small: Path) -> None:
    with contextlib.closing(Desk(small)) as desk:
        desk.tell(1, 1)
        filler = small / "filler"
        fill(filler)
        for _ in range(20):
            desk.tell(*[1000] * 30)
        waiting = desk.numbers(since=2)
        assert waiting == span(waiting[0], 602)
        assert len(waiting) * 1000 < WAITING_MAX_BYTES

        filler.unlink()
        desk.tell(1)
        last = desk.read()[-1]

    assert last["type"] == "events.lost"
    assert last["first"] == 3
    assert last["count"] == last["last"] - last["first"] + 1
    assert last["last"] == waiting[0] - 1


def fill(path: Path) -> None:
    """Leave no room on a file system."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)


# -- a model ----------------------------------------------------------------------

TELL = st.tuples(st.just("tell"), st.lists(st.integers(0, 7000), max_size=30))
READ = st.tuples(st.just("read"), st.integers(0, 400))
REOPEN = st.tuples(
    st.just("reopen"),
    st.sampled_from([b"", b'{"id":1,', b"\0" * 70_000, b"junk\n", b'{"id":2,"a"}']),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(TELL | READ | REOPEN, max_size=14))
def test_any_order_of_telling_reading_and_restarting(
    steps: list[tuple[str, Any]],
) -> None:
    with tempfile.TemporaryDirectory() as root:
        Path(root).chmod(0o700)
        with contextlib.closing(Desk(Path(root))) as desk:
            told = 0
            for step, value in [*steps, ("read", 0)]:
                if step == "tell":
                    desk.tell(*value)
                    told += len(value)
                elif step == "reopen":
                    desk.events.close()
                    if files := sorted(desk.directory.glob("*.jsonl")):
                        newest = max(files, key=lambda path: int(path.stem))
                        with newest.open("ab") as file:
                            file.write(value)
                    desk.open()
                numbers = desk.numbers(value if step == "read" else 0)
                first = max(desk.events.oldest, value + 1 if step == "read" else 1)
                assert desk.events.newest == told
                assert numbers == span(first, told)
