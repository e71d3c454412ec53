"""Watching over real connections to a real agent."""

import asyncio
import os
import shutil
import signal
from pathlib import Path

import pytest
from aiohttp import WSMsgType

from agent.files.watch.kernel_queue import MAX_EVENTS
from tests.files.watch.conftest import Client, in_thread, told
from tests.support.agent import Agent
from tests.support.processes import tree

PROGRAM = "agent.files.watch.program"


def watchers(agent: Agent) -> list[int]:
    """Return the processes that watch for an agent."""
    found = []
    for pid in tree(agent.pid):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if PROGRAM.encode() in words:
            found.append(pid)
    return found


@pytest.fixture
def place(agent: Agent) -> Path:
    place = agent.work_dir / "watched"
    place.mkdir()
    return place


async def test_what_happens_to_a_file_is_told_in_order(
    client: Client, place: Path
) -> None:
    async with client.listen(place) as listening:
        assert listening.response.content_type == "text/event-stream"
        (place / "a").write_text("1")
        created = await listening.until("created")
        (place / "a").write_text("2")
        modified = await listening.until("modified")
        (place / "a").unlink()
        deleted = await listening.until("deleted")

    events = [*created, *modified, *deleted]
    assert told(events, place)[0] == ("created", "a")
    assert told(events, place)[-1] == ("deleted", "a")
    numbers = [each["sequence"] for each in events]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert all(each["time"].endswith("Z") for each in events)


async def test_paths_begin_as_the_client_wrote_them(
    client: Client, place: Path
) -> None:
    async with client.listen("watched") as listening:
        (place / "a").touch()

        assert (await listening.until("created"))[0]["path"] == "watched/a"


async def test_nothing_that_happens_after_the_headers_is_missed(
    client: Client, place: Path
) -> None:
    for name in map(str, range(20)):
        url = client.url(place, recursive="true", since="1")
        async with client.session.get(url) as answer:
            (place / name).touch()
            assert answer.status == 200
            seen = b""
            while f'"{place}/{name}"'.encode() not in seen:
                seen += await answer.content.readany()


async def test_a_thousand_files_at_once_are_all_told(
    client: Client, place: Path
) -> None:
    def make() -> None:
        for number in range(1000):
            (place / f"f{number}").touch()

    async with client.listen(place) as listening:
        await in_thread(make)
        found: set[str] = set()
        while len(found) < 1000:
            said = await listening.next()
            assert said is not None
            if said["kind"] == "created":
                assert said["path"] not in found
                found.add(said["path"])


async def test_a_new_tree_is_told_whole_and_once(client: Client, place: Path) -> None:
    wanted = [f"new/{a}/{b}/f" for a in range(5) for b in range(5)]

    def make() -> None:
        for each in wanted:
            (place / each).parent.mkdir(parents=True, exist_ok=True)
            (place / each).touch()

    async with client.listen(place, recursive="true") as listening:
        await in_thread(make)
        (place / "last").touch()
        events = await listening.until("created", f"{place}/last")
        while not {f"{place}/{each}" for each in wanted} <= {e["path"] for e in events}:
            events += await listening.until("created")

    paths = [path for kind, path in told(events, place) if kind == "created"]
    assert len(paths) == len(set(paths))
    assert paths.index("new") < paths.index("new/0") < paths.index("new/0/0")


async def test_without_recursive_what_is_below_is_not_told(
    client: Client, place: Path
) -> None:
    (place / "sub").mkdir()

    async with client.listen(place) as listening:
        (place / "sub/deep").touch()
        (place / "last").touch()

        events = await listening.until("created", f"{place}/last")

    assert ("created", "sub/deep") not in told(events, place)


async def test_a_rename_is_one_event(client: Client, place: Path) -> None:
    old = place / "old"
    old.touch()

    async with client.listen("watched") as listening, client.socket(place) as socket:
        old.rename(place / "new")

        event = (await listening.until("moved"))[0]
        assert (event["path"], event["from"]) == ("watched/new", "watched/old")
        event = await socket.receive_json()
        assert (event["path"], event["from"]) == (f"{place}/new", f"{place}/old")


async def test_a_moved_directory_is_one_event_and_stays_watched(
    client: Client, place: Path
) -> None:
    (place / "a/b").mkdir(parents=True)
    (place / "a/b/file").touch()

    async with client.listen(place, recursive="true") as listening:
        (place / "a").rename(place / "z")
        events = await listening.until("moved")
        (place / "z/b/new").touch()
        events += await listening.until("created")
        (place / "z/b/file").unlink()
        events += await listening.until("deleted")

    wanted = [("moved", "z"), ("created", "z/b/new"), ("deleted", "z/b/file")]
    assert told(events, place) == wanted


async def test_what_was_made_while_it_was_watched_moves_too(
    client: Client, place: Path
) -> None:
    async with client.listen(place, recursive="true") as listening:
        await in_thread(lambda: (place / "a/b").mkdir(parents=True))
        await listening.until("created", f"{place}/a/b")
        (place / "a/b").rename(place / "c")

        event = (await listening.until("moved"))[-1]

    assert (event["path"], event["from"]) == (f"{place}/c", f"{place}/a/b")


async def test_a_log_that_is_rotated_moved_before_the_next_came(
    client: Client, place: Path
) -> None:
    (place / "log").touch()

    async with client.listen(place) as listening:
        (place / "log").rename(place / "log.1")
        (place / "log").touch()
        events = await listening.until("created")

    assert told(events, place) == [("moved", "log.1"), ("created", "log")]


async def test_a_new_file_by_the_number_of_a_deleted_one_is_no_move(
    client: Client, place: Path
) -> None:
    numbers: set[int] = set()
    async with client.listen(place) as listening:
        for number in range(5):
            (place / f"{number}").touch()
            await listening.until("created", f"{place}/{number}")
            numbers.add((place / f"{number}").stat().st_ino)
            (place / f"{number}").unlink()
            (place / f"{number}-").touch()
            events = await listening.until("created", f"{place}/{number}-")
            numbers.add((place / f"{number}-").stat().st_ino)
            wanted = [("deleted", f"{number}"), ("created", f"{number}-")]
            assert told(events, place)[-2:] == wanted


async def test_a_moved_file_that_was_written_to_is_modified_as_well(
    client: Client, place: Path
) -> None:
    (place / "old").write_text("1")

    async with client.listen(place) as listening:
        (place / "old").rename(place / "new")
        (place / "new").write_text("2")
        events = await listening.until("modified")

    assert told(events, place) == [("moved", "new"), ("modified", "new")]


async def test_a_move_across_the_chosen_is_a_coming_or_a_going(
    client: Client, place: Path
) -> None:
    (place / "a").mkdir()
    for name in ("a/1", "a/2", "3"):
        (place / name).touch()

    async with client.listen(
        place, recursive="true", exclude="a", include="?"
    ) as listening:
        (place / "a/1").rename(place / "1")
        events = await listening.until("created", f"{place}/1")
        (place / "3").rename(place / "long")
        events += await listening.until("deleted")
        (place / "a/2").rename(place / "a/4")
        (place / "1").rename(place / "5")
        events += await listening.until("moved")

    assert told(events, place) == [("created", "1"), ("deleted", "3"), ("moved", "5")]
    assert [each.get("from") for each in events] == [None, None, f"{place}/1"]


async def test_links_to_directories_are_not_followed(
    client: Client, place: Path
) -> None:
    elsewhere = place.with_name("elsewhere")
    for directory in (elsewhere, place / "z"):
        directory.mkdir()
    (place / "out").symlink_to(elsewhere)
    (place / "in").symlink_to("z")

    async with client.listen(place, recursive="true") as listening:
        (elsewhere / "a").touch()
        (place / "later").symlink_to(elsewhere)
        (place / "in/b").touch()
        events = await listening.until("created", f"{place}/z/b")
        (elsewhere / "c").touch()
        (place / "zz").touch()
        events += await listening.until("created", f"{place}/zz")

    created = [path for kind, path in told(events, place) if kind == "created"]
    assert sorted(created) == ["later", "z/b", "zz"]


async def test_a_file_that_editors_replace_stays_watched(
    client: Client, place: Path
) -> None:
    file = place / "notes"
    file.write_text("1")

    async with client.listen(file) as listening:
        for text in "23":
            (place / "other").write_text(text)
            (place / "other").rename(file)
            events = await listening.until("created")
            assert {each["path"] for each in events} == {str(file)}


async def test_an_uploads_temporary_file_is_not_told(
    client: Client, place: Path
) -> None:
    async with client.listen(place) as listening:
        await in_thread(
            client.agent.request, "POST", f"/files/upload-v2?path={place}/up", b"x"
        )
        # One moment's creations are told in the order of their names.
        (place / "zz").touch()
        events = await listening.until("created", f"{place}/zz")

    assert {path for _, path in told(events, place)} == {"up", "zz"}


async def test_globs_choose_what_is_told(client: Client, place: Path) -> None:
    (place / "lib/deep").mkdir(parents=True)

    async with client.listen(
        place, recursive="true", include="*.py,last", exclude="lib"
    ) as listening:
        for name in ("a.py", "a.txt", "lib/b.py", "lib/deep/c.py", "last"):
            (place / name).touch()
        events = await listening.until("created", f"{place}/last")

    assert {path for _, path in told(events, place)} == {"a.py", "last"}


async def test_a_websocket_hears_the_same(client: Client, place: Path) -> None:
    async with client.listen(place) as listening, client.socket(place) as socket:
        (place / "a").touch()

        event = (await listening.until("created"))[0]
        assert await socket.receive_json() == event


async def test_a_client_that_comes_back_has_no_gap_and_no_duplicate(
    client: Client, place: Path
) -> None:
    def make(start: int, stop: int) -> None:
        for number in range(start, stop):
            (place / f"{number:03}").mkdir()

    async with client.listen(place) as listening:
        await in_thread(make, 0, 100)
        first = await listening.until("created", f"{place}/042")
        last = listening.ids[-1]
    await in_thread(make, 100, 200)
    async with client.listen(place, last) as listening:
        second = await listening.until("created", f"{place}/199")

    events = [each for each in first + second if each["kind"] != "ready"]
    numbers = [each["sequence"] for each in events]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    made = [path for kind, path in told(events, place) if kind == "created"]
    assert sorted(made) == [f"{number:03}" for number in range(200)]


async def test_since_does_what_the_header_does_and_the_header_wins(
    client: Client, place: Path
) -> None:
    async with client.listen(place) as listening:
        (place / "a").mkdir()
        (place / "b").mkdir()
        await listening.until("created", f"{place}/b")
    before, last = listening.ids[0], listening.ids[-1]

    async with client.listen(place, since=before) as listening:
        assert (await listening.until("created"))[0]["path"] == f"{place}/a"
    async with client.listen(place, last, since=before) as listening:
        (place / "c").mkdir()
        assert (await listening.until("created"))[0]["path"] == f"{place}/c"


@pytest.mark.parametrize("last", ["7", "9007199254740990"])
async def test_a_number_of_another_time_is_answered_with_overflow(
    client: Client, place: Path, last: str
) -> None:
    async with client.listen(place, last) as listening:
        event = await listening.next()
        assert event is not None
        assert (event["kind"], event.get("path")) == ("overflow", None)
        (place / "a").touch()
        assert (await listening.until("created"))[0]["path"] == f"{place}/a"


async def test_listeners_of_one_tree_share_its_watcher(
    client: Client, place: Path
) -> None:
    link = place.parent / "link"
    link.symlink_to(place)

    async with (
        client.listen(place),
        client.listen(link) as other,
        client.listen(place, recursive="true"),
    ):
        assert len(await in_thread(watchers, client.agent)) == 2
        (place / "a").touch()
        assert (await other.until("created"))[0]["path"] == f"{link}/a"


async def test_a_deleted_directory_is_gone_and_the_answer_ends(
    client: Client, place: Path
) -> None:
    (place / "a").touch()

    async with client.listen(place) as listening, client.socket(place) as socket:
        await in_thread(shutil.rmtree, place)
        events = await listening.until("gone")
        assert await listening.next() is None
        kinds = [message.json()["kind"] async for message in socket]

    assert told(events, place) == [("deleted", "a"), ("gone", str(place))]
    assert kinds[-1] == "gone"
    assert socket.close_code == 1000
    assert (await client.failure(place))[0] == 404


async def test_a_directory_that_is_another_one_is_gone_too(
    client: Client, place: Path
) -> None:
    async with client.listen(place) as listening:
        await in_thread(place.rename, place.with_name("elsewhere"))
        await in_thread(place.mkdir)
        await listening.until("gone")

    async with client.listen(place) as listening:
        (place / "a").touch()
        await listening.until("created", f"{place}/a")


@pytest.mark.parametrize(
    ("path", "query", "status"),
    [
        ("watched/none", {}, 404),
        ("watched/file/x", {}, 400),
        ("watched/loop", {}, 400),
        ("%00", {}, 400),
        ("", {}, 400),
        ("watched", {"since": "x"}, 400),
        ("watched", {"include": ",".join("abc" * 20)}, 400),
        ("watched", {"exclude": "a" * 300}, 400),
        ("watched/%FF", {}, 400),
    ],
)
async def test_what_makes_no_sense_is_refused(
    client: Client, place: Path, path: str, query: dict[str, str], status: int
) -> None:
    (place / "file").touch()
    (place / "loop").symlink_to("loop")
    await in_thread(Path(os.fsdecode(os.fsencode(place) + b"/\xff")).mkdir)

    assert (await client.failure(path, **query))[0] == status


async def test_a_killed_api_means_overflow_and_no_stray_watcher(
    client: Client, place: Path
) -> None:
    agent = client.agent
    async with client.listen(place) as listening:
        (place / "a").touch()
        await listening.until("created")
        before = await in_thread(watchers, agent)
        os.kill(await in_thread(agent.api_pid), signal.SIGKILL)
        with pytest.raises(Exception, match=r"payload|disconnect|reset"):
            await listening.until("never")

    async with client.listen(place, listening.ids[-1]) as again:
        first = await again.next()
        assert first is not None
        assert first["kind"] == "overflow"
        (place / "b").touch()
        await again.until("created", f"{place}/b")
        while set(before) & set(await in_thread(watchers, agent)):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_killed_watcher_ends_the_answer_and_the_next_says_overflow(
    client: Client, place: Path
) -> None:
    async with client.listen(place) as listening:
        (place / "a").touch()
        await listening.until("created")
        os.kill((await in_thread(watchers, client.agent))[0], signal.SIGKILL)
        while await listening.next():
            pass

    async with client.listen(place, listening.ids[-1]) as again:
        first = await again.next()
        assert first is not None
        assert first["kind"] == "overflow"


async def test_a_name_that_is_not_utf_8_means_overflow_and_no_end(
    client: Client, place: Path
) -> None:
    strange = Path(os.fsdecode(os.fsencode(place) + b"/\xff"))
    async with client.listen(place) as listening:
        await in_thread(strange.touch)
        await listening.until("overflow")
        (place / "a").touch()
        await listening.until("created", f"{place}/a")


@pytest.mark.timeout(40)
async def test_a_queue_of_the_system_that_was_too_short_means_overflow(
    client: Client, place: Path
) -> None:
    def flood() -> None:
        places = int(Path(MAX_EVENTS).read_text())
        # At least two events each.
        for number in range(places // 2 + 1):
            (place / f"{number}").touch()
        (place / "sub").mkdir()

    async with client.listen(place, recursive="true", include="x") as listening:
        watcher = (await in_thread(watchers, client.agent))[0]
        os.kill(watcher, signal.SIGSTOP)
        await in_thread(flood)
        os.kill(watcher, signal.SIGCONT)
        await listening.until("overflow")
        # Nothing told of this directory, and yet what is in it is told.
        (place / "sub/x").touch()
        await listening.until("created", f"{place}/sub/x")
        (place / "sub/x").rename(place / "x")
        await listening.until("moved", f"{place}/x")


async def test_a_stopping_agent_ends_every_answer(client: Client, place: Path) -> None:
    async with client.listen(place) as listening, client.socket(place) as socket:
        stopping = asyncio.create_task(in_thread(client.agent.stop))

        assert await listening.next() is None
        message = await socket.receive()
        assert (message.type, socket.close_code) == (WSMsgType.CLOSE, 1001)
        assert await stopping == 0


async def test_a_client_that_leaves_is_noticed_at_once(
    client: Client, place: Path
) -> None:
    # Only what counts listeners is looked at: they are bounded, and these all left.
    for _ in range(10):
        await asyncio.gather(*(come_and_go(client, place) for _ in range(30)))


async def come_and_go(client: Client, place: Path) -> None:
    async with client.listen(place):
        pass


async def test_a_listener_that_is_too_slow_hears_so_and_goes_on(
    client: Client, place: Path
) -> None:
    # More than what the system's own buffers of a connection hold.
    place = place / ("d" * 250) / ("d" * 250) / ("d" * 250)
    await in_thread(lambda: place.mkdir(parents=True))
    names = [f"{number:05}-{'n' * 240}" for number in range(12_000)]

    def make(start: int) -> None:
        for name in names[start : start + 1000]:
            (place / name).touch()
        (place / f"last-{start}").touch()

    async with (
        client.listen(place) as slow,
        client.listen(place, include="last*") as ok,
    ):
        transport = slow.response.connection.transport  # type: ignore[union-attr]
        transport.pause_reading()  # type: ignore[union-attr]
        # In pieces, so that the system's own queue does not overflow.
        for start in range(0, len(names), 1000):
            await in_thread(make, start)
            await ok.until("created", f"{place}/last-{start}")
        transport.resume_reading()  # type: ignore[union-attr]
        heard = await slow.until("overflow")
        (place / "after").touch()
        await slow.until("created", f"{place}/after")

    assert len(heard) < 2 * len(names)
