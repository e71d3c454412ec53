"""What changes on the disk is known at once, whoever changed it and however."""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from agent.lsp.watching import CHANGED, CREATED, DELETED, Watch
from tests.lsp.conftest import Desk, failure

Watching = Callable[[], Watch]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    directory = tmp_path / "proj"
    (directory / "src/deep").mkdir(parents=True)
    (directory / "src/a.py").write_text("a")
    (directory / "src/deep/b.py").write_text("b")
    return directory


@pytest.fixture
def watching(root: Path) -> Iterator[Watching]:
    """Return what begins to watch the project."""
    watch = Watch(str(root), (".py",))

    def begin() -> Watch:
        watch.begin()
        return watch

    yield begin
    watch.close()


def told(watch: Watch, root: Path) -> dict[str, int]:
    """Return what changed, by its path from the root."""
    return {os.path.relpath(each.path, root): each.kind for each in watch.changes()}


def test_nothing_is_told_of_what_is_as_it_was(root: Path, watching: Watching) -> None:
    watch = watching()

    assert watch.is_quiet()
    (root / "notes.md").write_text("not a name that counts")
    assert told(watch, root) == {}
    assert watch.is_quiet()
    assert watch.is_whole


def test_files_that_come_change_and_go_are_told_once(
    root: Path, watching: Watching
) -> None:
    watch = watching()

    (root / "new.py").write_text("n")
    (root / "src/a.py").write_text("changed")
    (root / "src/deep/b.py").unlink()
    (root / "pyproject.toml").write_text("")

    assert not watch.is_quiet()
    assert told(watch, root) == {
        "new.py": CREATED,
        "pyproject.toml": CREATED,
        "src/a.py": CHANGED,
        "src/deep/b.py": DELETED,
    }
    assert told(watch, root) == {}


def test_what_came_and_went_unseen_is_not_told(root: Path, watching: Watching) -> None:
    watch = watching()

    (root / "new.py").write_text("n")
    (root / "new.py").unlink()

    assert told(watch, root) == {}


def test_writes_of_one_moment_and_length_are_told(
    root: Path, watching: Watching
) -> None:
    watch = watching()
    path = root / "src/a.py"
    before = path.stat()

    path.write_text("z")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    assert told(watch, root) == {"src/a.py": CHANGED}


def test_a_file_that_is_replaced_by_a_rename_has_changed(
    root: Path, watching: Watching
) -> None:
    watch = watching()

    (root / "src/.a.tmp").write_text("x")
    (root / "src/.a.tmp").rename(root / "src/a.py")

    assert told(watch, root) == {"src/a.py": CHANGED}


def test_new_directories_are_watched_with_what_is_in_them(
    root: Path, watching: Watching
) -> None:
    watch = watching()

    (root / "x/y").mkdir(parents=True)
    (root / "x/y/c.py").write_text("c")
    assert told(watch, root) == {"x/y/c.py": CREATED}
    (root / "x/y/c.py").write_text("changed")
    assert told(watch, root) == {"x/y/c.py": CHANGED}


def test_a_directory_that_moves_takes_its_files_along(
    root: Path, watching: Watching
) -> None:
    watch = watching()

    (root / "src").rename(root / "lib")
    assert told(watch, root) == {
        "src/a.py": DELETED,
        "src/deep/b.py": DELETED,
        "lib/a.py": CREATED,
        "lib/deep/b.py": CREATED,
    }
    (root / "lib/deep/b.py").write_text("changed")
    assert told(watch, root) == {"lib/deep/b.py": CHANGED}


def test_a_directory_that_another_replaced_is_told_by_what_differs(
    root: Path, watching: Watching
) -> None:
    watch = watching()

    shutil.rmtree(root / "src")
    (root / "src").mkdir()
    (root / "src/a.py").write_text("other")

    assert told(watch, root) == {"src/a.py": CHANGED, "src/deep/b.py": DELETED}
    (root / "src/a.py").unlink()
    assert told(watch, root) == {"src/a.py": DELETED}


def test_many_directories_that_go_at_once_are_told(
    root: Path, watching: Watching
) -> None:
    for number in range(100):
        (root / f"many/d{number}").mkdir(parents=True)
        (root / f"many/d{number}/c.py").write_text("c")
    watch = watching()

    shutil.rmtree(root / "many")

    assert told(watch, root) == {f"many/d{n}/c.py": DELETED for n in range(100)}
    (root / "src/a.py").write_text("changed")
    assert told(watch, root) == {"src/a.py": CHANGED}


def test_more_than_the_system_remembers_is_found_all_the_same(
    root: Path, watching: Watching
) -> None:
    watch = watching()
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if limit > 200_000:
        pytest.skip(f"this system remembers {limit} events")
    (root / "src/c.py").write_text("c")

    # In turns, because of the same word twice in a row the system keeps one.
    for _ in range(limit // 2 + 1):
        os.utime(root / "src/a.py", ns=(5, 5))
        os.utime(root / "src/c.py", ns=(5, 5))
    (root / "late.py").write_text("past the limit")

    assert told(watch, root) == {
        "src/a.py": CHANGED,
        "src/c.py": CREATED,
        "late.py": CREATED,
    }
    (root / "late.py").unlink()
    assert told(watch, root) == {"late.py": DELETED}


def test_a_root_that_goes_and_comes_back_is_followed(
    root: Path, watching: Watching
) -> None:
    watch = watching()

    shutil.rmtree(root)
    assert told(watch, root) == {"src/a.py": DELETED, "src/deep/b.py": DELETED}
    assert not watch.is_whole
    root.mkdir()
    (root / "a.py").write_text("a")
    assert told(watch, root) == {"a.py": CREATED}
    (root / "a.py").write_text("changed")
    assert told(watch, root) == {"a.py": CHANGED}
    assert watch.is_whole


def test_caches_and_hidden_directories_are_left_alone(
    root: Path, watching: Watching
) -> None:
    for place in (".git", "__pycache__", ".mypy_cache"):
        (root / place).mkdir()
    watch = watching()

    for place in (".git", "__pycache__", ".mypy_cache"):
        (root / place / "a.py").write_text("x")

    assert watch.is_quiet()


def test_packages_are_told_of_as_wholes(root: Path, watching: Watching) -> None:
    site = root / ".venv/lib/python3.11/site-packages"
    modules = root / "node_modules"
    (site / "old").mkdir(parents=True)
    (modules / "@scope/one/lib").mkdir(parents=True)
    watch = watching()

    (site / "new").mkdir()
    (site / "new/__init__.py").write_text("")
    # Written last by pip, which is when the file above is looked for again.
    (site / "new-1.dist-info").mkdir()
    (modules / "@scope/two").mkdir()
    (modules / "@scope/two/package.json").write_text("{}")
    shutil.rmtree(site / "old")

    inside = os.path.relpath(site, root)
    changes = told(watch, root)
    assert changes[f"{inside}/new/__init__.py"] == CREATED
    assert changes[f"{inside}/old"] == DELETED
    assert changes["node_modules/@scope/two"] == CREATED
    assert changes["node_modules/@scope/two/package.json"] == CREATED
    (modules / "@scope/one/lib/deep.py").write_text("not looked at")
    assert told(watch, root) == {}


def watched(desk: Desk) -> list[tuple[str, int]]:
    """Return what the server was told of, by name."""
    return [
        (each["uri"].rpartition("/")[2], each["type"])
        for message in desk.heard("workspace/didChangeWatchedFiles")
        for each in message["params"]["changes"]
    ]


def watches(desk: Desk) -> int:
    """Return how many watches the agent has."""
    links = []
    for each in Path(f"/proc/{desk.agent.api_pid()}/fd").iterdir():
        # Others are closed meanwhile.
        with contextlib.suppress(FileNotFoundError):
            links.append(str(each.readlink()))
    return links.count("anon_inode:inotify")


def test_a_server_hears_of_other_files_before_it_is_asked(desk: Desk) -> None:
    uri = desk.write("a.py", "x")
    lib = desk.root / "lib.py"
    desk.start()
    desk.labels(uri)
    assert watched(desk) == []

    for kind, text in ((CREATED, "1"), (CHANGED, "2"), (CHANGED, "3"), (DELETED, "")):
        if text:
            lib.write_text(text)
        else:
            lib.unlink()
        desk.labels(uri)
        assert watched(desk)[-1] == ("lib.py", kind)
    assert len(watched(desk)) == 4

    methods = [each["method"] for each in desk.heard() if "method" in each]
    assert methods[-2:] == [
        "workspace/didChangeWatchedFiles",
        "textDocument/completion",
    ]


def test_an_open_document_is_read_again_though_its_time_is_the_same(
    desk: Desk,
) -> None:
    uri = desk.write("a.py", "one")
    desk.start()
    assert desk.labels(uri) == ["one"]
    before = (desk.root / "a.py").stat()

    (desk.root / "a.py").write_text("two")
    os.utime(desk.root / "a.py", ns=(before.st_atime_ns, before.st_mtime_ns))

    assert desk.labels(uri) == ["two"]


def test_a_server_that_was_restarted_hears_of_changes_too(desk: Desk) -> None:
    uri, bad = desk.write("a.py", "x"), desk.write("bad.py", "do: crash")
    desk.start()
    assert failure(desk.complete(bad))[0] == 500
    desk.labels(uri)

    desk.write("lib.py", "new")
    desk.labels(uri)

    assert watched(desk)[-1] == ("lib.py", CREATED)
    assert desk.heard("workspace/didChangeWatchedFiles")[-1]["pid"] in desk.pids()


def test_a_stopped_server_leaves_no_watch_behind(desk: Desk) -> None:
    before = watches(desk)
    desk.start()
    assert watches(desk) == before + 1
    desk.post("stop")

    assert watches(desk) == before


def test_a_start_that_fails_leaves_no_watch_behind(desk: Desk) -> None:
    before = watches(desk)
    desk.behave(initialize="crash")

    for _ in range(2):
        assert failure(desk.post("start"))[0] == 500

    assert watches(desk) == before


def sources(root: Path) -> dict[str, str]:
    """Return what is in the files that count."""
    return {
        os.path.relpath(each, root): each.read_text()
        for each in root.rglob("*.py")
        if each.is_file() and not any(p.startswith(".") for p in each.parts[-4:])
    }


def disturb(root: Path, random: Random) -> None:  # noqa: C901 - one list of deeds
    """Do something to some file or directory."""
    places = [root, *(each for each in root.rglob("*") if each.is_dir())]
    files = [each for each in root.rglob("*.py") if each.is_file()]
    place, name = random.choice(places), random.choice("abcd")
    match random.randrange(8):
        case 0 | 1:
            (place / f"{name}.py").write_text(str(random.random()))
        case 2 if files:
            random.choice(files).write_text(random.choice("xyz"))
        case 3 if files:
            random.choice(files).unlink()
        case 4 if files:
            random.choice(files).replace(place / f"{name}.py")
        case 5 if len(place.relative_to(root).parts) < 3:
            (place / name).mkdir(exist_ok=True)
        case 6 if place != root:
            shutil.rmtree(place)
        case 7 if place != root:
            target = random.choice(places)
            inside = target == place or place in target.parents
            if not inside and not (target / name).exists():
                place.rename(target / name)


@pytest.mark.parametrize("seed", range(12))
def test_whatever_happens_what_is_told_leads_to_what_is_there(
    root: Path, watching: Watching, seed: int
) -> None:
    random = Random(seed)
    watch = watching()
    before = sources(root)
    known = set(before)

    for _ in range(60):
        for _ in range(random.randrange(1, 6)):
            disturb(root, random)
        changes = told(watch, root)
        now = sources(root)
        for path, kind in changes.items():
            assert (path in known) == (kind != CREATED), path
            known = known - {path} if kind == DELETED else known | {path}
        assert known == set(now)
        for path, content in now.items():
            if path in before and before[path] != content:
                assert path in changes
        before = now
    assert told(watch, root) == {}
    assert watch.is_quiet()
