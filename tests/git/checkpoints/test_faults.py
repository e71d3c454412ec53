"""Checkpoints under kills, full disks, writers beside them, and their own limits."""

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.git.checkpoints.conftest import Desk, picture
from tests.git.conftest import Git, failure
from tests.git.remote import fill, git as run
from tests.support.agent import Agent, StartAgent

FILES = 300


def many(root: Path, content: str) -> None:
    root.mkdir(exist_ok=True)
    fill(root, {f"d{at % 7}/f{at}": f"{content} {at}\n" * 50 for at in range(FILES)})


def kill_api(agent: Agent) -> None:
    os.kill(agent.api_pid(), signal.SIGKILL)
    assert agent.request("GET", "/version").status == 200


def strays(root: Path) -> list[Path]:
    return list(root.rglob(".tbx-*"))


@contextlib.contextmanager
def small_disk(place: Path) -> Iterator[Path]:
    """Mount a file system with little room."""
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=2m,mode=700", "tmpfs", str(place)]
    subprocess.run(words, check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """Return a file system with little room."""
    with small_disk(tmp_path / "small") as disk:
        yield disk


# -- full disks ----------------------------------------------------------------------


@pytest.mark.root
def test_a_restore_without_room_changes_nothing(desk: Desk, small: Path) -> None:
    root = small / "root"
    fill(root, {"kept": "old", "sub/large": "x" * 1_200_000})
    made = desk.take(root)
    (root / "sub/large").unlink()
    (root / "sub").rmdir()
    fill(root, {"kept": "new", "other": "y" * 1_200_000})
    before = picture(root)

    # The new content has to be there before what takes its room may go.
    answer = desk.ask("POST", root, f"/{made['id']}/restore")

    assert failure(answer) == (507, "INSUFFICIENT_STORAGE")
    assert picture(root) == before
    assert [each["id"] for each in desk.told(root)["checkpoints"]] == [made["id"]]


@pytest.mark.root
def test_a_checkpoint_without_room_leaves_the_store_as_it_was(
    agent: Agent, tmp_path: Path
) -> None:
    desk, stores = Desk(Git(agent)), agent.state_dir / "checkpoints"
    root = tmp_path / "root"
    fill(root, {"a": "first"})
    with small_disk(stores):
        made = desk.take(root)
        (root / "large").write_bytes(os.urandom(3_000_000))

        answer = desk.ask("POST", root)

        assert answer.status == 507, answer.body
        assert failure(answer) == (507, "INSUFFICIENT_STORAGE")
        assert [each["id"] for each in desk.told(root)["checkpoints"]] == [made["id"]]
        assert not list(stores.rglob("tmp_*"))
        (root / "large").unlink()
        fill(root, {"a": "second"})
        desk.restore(root, made)
        assert (root / "a").read_text() == "first"


@pytest.mark.root
def test_a_restore_that_the_system_stops_half_way_is_taken_back(
    desk: Desk, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    fill(root, {"a": "old", "mounted": "old", "sub/gone": "old", "z": "old"})
    made = desk.take(root)
    fill(root, {"a": "new", "mounted": "new", "sub2/new": "new", "z": "new"})
    (root / "sub/gone").unlink()
    (root / "sub").rmdir()
    before = picture(root)
    mounted = str(root / "mounted")
    # Nothing can be renamed onto it any more.
    subprocess.run(["mount", "--bind", mounted, mounted], check=True)
    try:
        answer = desk.ask("POST", root, f"/{made['id']}/restore")
    finally:
        subprocess.run(["umount", mounted], check=True)

    assert failure(answer)[0] == 409
    assert picture(root) == before
    assert desk.told(root).keys() == {"checkpoints"}
    desk.restore(root, made)
    assert (root / "mounted").read_text() == "old"


# -- kills ---------------------------------------------------------------------------


@pytest.mark.timeout(30)
@pytest.mark.parametrize("moment", ["staging", "settling"])
def test_a_killed_restore_is_ended_by_asking_again(
    agent: Agent, tmp_path: Path, moment: str
) -> None:
    desk, root = Desk(Git(agent)), tmp_path / "root"
    many(root, "old")
    old = picture(root)
    made = desk.take(root)
    many(root, "new")
    fill(root, {"added": "x"})
    new = picture(root)
    store = desk.stores[0]

    def has_begun() -> bool:
        return bool(
            strays(root) if moment == "staging" else (store / "restoring").exists()
        )

    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(desk.ask, "POST", root, f"/{made['id']}/restore")
        while not has_begun() and not asked.done():
            pass
        kill_api(agent)
        asked.exception()

    told = desk.told(root)
    before = next(each for each in told["checkpoints"] if each.get("restored"))
    if "interruptedRestore" in told:
        assert told["interruptedRestore"] == {"id": made["id"], "before": before["id"]}
    desk.restore(root, made)
    # The next agent removes them on its way, beside what it is asked for.
    while strays(root):
        desk.told(root)
    assert picture(root) == old
    assert "interruptedRestore" not in desk.told(root)
    desk.restore(root, before)
    assert picture(root) == new


def test_a_killed_checkpoint_is_not_there_and_the_next_one_is(
    agent: Agent, tmp_path: Path
) -> None:
    desk, root = Desk(Git(agent)), tmp_path / "root"
    fill(root, {"a": "a"})
    first = desk.take(root)
    many(root, "more")
    store = desk.stores[0]

    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(desk.ask, "POST", root)
        while not list(store.rglob("tmp_*")) and not asked.done():
            pass
        kill_api(agent)
        asked.exception()
    second = desk.take(root)

    assert second["files"] == FILES + 1
    assert desk.told(root)["checkpoints"][-1] == first
    assert not list(store.rglob("*.lock"))
    run("fsck", "--strict", cwd=store)


# -- others beside us ----------------------------------------------------------------


def test_writers_beside_a_checkpoint_do_not_stop_it(desk: Desk, tmp_path: Path) -> None:
    root = tmp_path / "root"
    many(root, "old")
    done = threading.Event()

    def write() -> None:
        at = 0
        while not done.is_set():
            at += 1
            path = root / f"d{at % 7}" / f"f{at % FILES}"
            path.unlink(missing_ok=True)
            path.write_text("x" * (at * 37 % 9000))
            # The other one may have removed it.
            with contextlib.suppress(FileNotFoundError):
                os.truncate(path, at % 50)

    with ThreadPoolExecutor(2) as pool:
        writers = [pool.submit(write) for _ in range(2)]
        try:
            answers = [desk.ask("POST", root) for _ in range(5)]
        finally:
            done.set()
        for each in writers:
            each.result()

    assert {each.status for each in answers} == {201}
    state = picture(root)
    made = desk.take(root)
    fill(root, {"d0/f0": "again"})
    desk.restore(root, made)
    assert picture(root) == state


def test_many_at_once_wait_for_each_other(desk: Desk, tmp_path: Path) -> None:
    root = tmp_path / "root"
    many(root, "x")
    made = desk.take(root)
    calls: list[Callable[[], object]] = [
        lambda: desk.take(root),
        lambda: desk.restore(root, made),
        lambda: desk.diff(root, made),
    ] * 3

    with ThreadPoolExecutor(len(calls)) as pool:
        for each in [pool.submit(call) for call in calls]:
            each.result()

    assert len(desk.told(root)["checkpoints"]) == 1 + 3 + 3


# -- limits --------------------------------------------------------------------------


def test_the_oldest_checkpoints_go_when_there_are_too_many(
    start_agent: StartAgent, tmp_path: Path
) -> None:
    desk = Desk(Git(start_agent("--checkpoints-max-count", "3")))
    root = tmp_path / "root"
    made = []
    for at in range(5):
        fill(root, {"a": str(at)})
        made.append(desk.take(root)["id"])

    assert [each["id"] for each in desk.told(root)["checkpoints"]] == made[:1:-1]


def test_the_oldest_checkpoints_go_when_they_are_too_large(
    start_agent: StartAgent, tmp_path: Path
) -> None:
    desk = Desk(Git(start_agent("--checkpoints-max-bytes", "3000000")))
    root = tmp_path / "root"
    root.mkdir()
    made = []
    for _ in range(5):
        (root / "random").write_bytes(os.urandom(1_000_000))
        made.append(desk.take(root)["id"])
        size = sum(each.stat().st_size for each in desk.stores[0].rglob("*"))
        assert size < 3_500_000

    kept = [each["id"] for each in desk.told(root)["checkpoints"]]
    assert 1 <= len(kept) <= 3
    assert kept[0] == made[-1]
    (root / "more").write_bytes(bytes(3_000_000))
    assert failure(desk.ask("POST", root))[0] == 413


def test_a_large_file_is_left_out_and_left_alone(
    start_agent: StartAgent, tmp_path: Path
) -> None:
    desk = Desk(Git(start_agent("--checkpoint-file-max-bytes", "1000")))
    root = tmp_path / "root"
    fill(root, {"small": "old", "large": "x" * 1001, "grows": "old"})
    made = desk.take(root)
    fill(root, {"small": "new", "large": "new"})

    desk.restore(root, made)

    assert made["skipped"] == [{"path": "large", "reason": "too large"}]
    assert made["skippedCount"] == 1
    assert (root / "small").read_text() == "old"
    assert (root / "large").read_text() == "new"
    fill(root, {"grows": "y" * 2000})
    status, message = desk.cannot_restore(root, made)
    assert (status, "grows" in message) == (409, True)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_fifty_thousand_files_take_seconds(desk: Desk, tmp_path: Path) -> None:
    root = tmp_path / "root"
    for directory in range(500):
        fill(
            root,
            {
                f"d{directory}/f{at}.txt": f"{directory} {at}\n" * 20
                for at in range(100)
            },
        )

    first = desk.ask("POST", root, limit_s=200)
    second = desk.ask("POST", root, limit_s=30)

    assert first.json()["files"] == 50_000
    assert second.json()["filesChanged"] == 0
