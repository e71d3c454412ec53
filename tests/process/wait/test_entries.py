"""Waiting for files: what holds already, what comes by rename, whole paths that come."""

import os
import shutil
from pathlib import Path

import pytest

from agent.files.watch import watches
from agent.process.wait import entries
from tests.process.wait.conftest import Desk, file


async def test_a_file_that_is_there_holds_at_once(desk: Desk) -> None:
    path = desk.work_dir / "here"
    path.write_text("123")
    os.utime(path, (1_700_000_000, 1_700_000_000.25))

    told = await desk.wait(file("here"))

    assert told["conditions"][0]["file"] == {
        "exists": True,
        "sizeBytes": 3,
        "modifiedAt": "2023-11-14T22:13:20.250000Z",
    }


async def test_a_file_that_is_not_there_is_absent_at_once(desk: Desk) -> None:
    told = await desk.wait(file("none/at/all", "absent"))

    assert told["conditions"][0]["file"] == {
        "exists": False,
        "sizeBytes": None,
        "modifiedAt": None,
    }


async def test_a_file_comes_by_rename(desk: Desk) -> None:
    source = desk.work_dir / "part"
    source.write_text("whole")

    async with desk.waiting(file("whole"), until=lambda d: d.listens) as wait:
        source.rename(desk.work_dir / "whole")
        told = await wait

    assert told["conditions"][0]["file"]["sizeBytes"] == 5


async def test_a_file_comes_with_its_directories(desk: Desk) -> None:
    path = desk.work_dir / "a/b/c/file"

    async with desk.waiting(file(path), until=lambda d: d.listens) as wait:
        path.parent.mkdir(parents=True)
        path.touch()
        told = await wait

    assert told["satisfied"]


async def test_a_directory_comes_by_rename_with_the_file_in_it(desk: Desk) -> None:
    (desk.work_dir / "new/inner").mkdir(parents=True)
    (desk.work_dir / "new/inner/file").touch()

    async with desk.waiting(
        file("final/inner/file"), until=lambda d: d.listens
    ) as wait:
        (desk.work_dir / "new").rename(desk.work_dir / "final")
        told = await wait

    assert told["satisfied"]


async def test_a_file_is_removed(desk: Desk) -> None:
    path = desk.work_dir / "lock"
    path.touch()

    async with desk.waiting(file(path, "absent"), until=lambda d: d.listens) as wait:
        path.unlink()
        told = await wait

    assert told["satisfied"]


async def test_a_file_is_absent_with_its_directory(desk: Desk) -> None:
    path = desk.work_dir / "a/b/lock"
    path.parent.mkdir(parents=True)
    path.touch()

    async with desk.waiting(file(path, "absent"), until=lambda d: d.listens) as wait:
        shutil.rmtree(desk.work_dir / "a")
        told = await wait

    assert told["satisfied"]


@pytest.mark.parametrize("way", ["write", "replace", "remove"])
async def test_a_change_is_told(desk: Desk, way: str) -> None:
    path = desk.work_dir / "config"
    path.write_text("1")
    other = desk.work_dir / "other"
    other.write_text("2")

    async with desk.waiting(file(path, "changed"), until=lambda d: d.listens) as wait:
        if way == "write":
            path.write_text("22")
        elif way == "replace":
            other.rename(path)
        else:
            path.unlink()
        told = await wait

    assert told["conditions"][0]["file"]["exists"] == (way != "remove")


async def test_what_changes_beside_a_file_is_no_change_of_it(desk: Desk) -> None:
    (desk.work_dir / "config").write_text("1")

    async with desk.waiting(
        file("config", "changed"), until=lambda d: d.listens, limit_s=0.5
    ) as wait:
        (desk.work_dir / "beside").write_text("2")
        told = await wait

    assert told["timedOut"]


async def test_a_new_entry_is_a_change_of_its_directory(desk: Desk) -> None:
    (desk.work_dir / "inbox").mkdir()

    async with desk.waiting(
        file("inbox", "changed"), until=lambda d: d.listens
    ) as wait:
        (desk.work_dir / "inbox/letter").touch()
        told = await wait

    assert told["satisfied"]


async def test_a_link_exists_with_what_it_leads_to(desk: Desk, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    target.mkdir()
    (desk.work_dir / "link").symlink_to(target / "file")

    async with desk.waiting(file("link"), until=lambda d: d.listens) as wait:
        (target / "file").touch()
        told = await wait

    assert told["satisfied"]


async def test_a_link_can_be_what_comes(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "target").touch()

    async with desk.waiting(file("link"), until=lambda d: d.listens) as wait:
        (desk.work_dir / "link").symlink_to(tmp_path / "target")
        told = await wait

    assert told["satisfied"]


async def test_a_link_on_the_way_may_come_to_lead_elsewhere(
    desk: Desk, tmp_path: Path
) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    (tmp_path / "new/ready").touch()
    (desk.work_dir / "current").symlink_to(tmp_path / "old")
    (desk.work_dir / "next").symlink_to(tmp_path / "new")

    async with desk.waiting(file("current/ready"), until=lambda d: d.listens) as wait:
        (desk.work_dir / "next").rename(desk.work_dir / "current")
        told = await wait

    assert told["satisfied"]


def test_every_directory_that_decides_is_watched(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "c").mkdir()
    (tmp_path / "a/link").symlink_to("../c/next")
    (tmp_path / "c/next").symlink_to(tmp_path / "a/b")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").touch()

    def told(path: str) -> list[str]:
        found = entries._directories(f"{tmp_path}/{path}")
        return [os.path.relpath(each, tmp_path) for each in found]

    assert told("a/b/x") == ["a/b"]
    assert told("a/none/../x") == ["a"]
    assert told("./a//b/../x") == ["a"]
    assert told("a/link/x/y") == ["a", "c", "a/b"]
    assert told("a/link") == ["a", "c"]
    assert told("a/b/") == ["a"]
    assert told("file/x") == ["."]
    assert told("loop/x") == ["."]
    assert entries._directories("/") == ("/",)


async def test_a_link_that_leads_nowhere_is_a_failure(desk: Desk) -> None:
    (desk.work_dir / "loop").symlink_to("loop")
    body = {"conditions": [file("loop/x")], "timeout": 5}

    status, told = await desk.ask(body)

    assert (status, told["code"]) == (400, "INVALID_FILE_PATH")


async def test_what_never_comes_is_pending(desk: Desk) -> None:
    told = await desk.wait(file("never"), limit_s=0.2)

    assert told["timedOut"]
    assert told["conditions"][0]["state"] == "pending"


async def test_too_many_trees_are_a_failure(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watches, "TREES_MAX", 1)
    for name in "ab":
        (desk.work_dir / name).mkdir()

    told = await desk.wait(file("a/x"), file("b/x"), mode="all")

    (failed,) = [each for each in told["conditions"] if each["state"] == "failed"]
    assert failed["reason"] == "more than 1 trees are watched"


async def test_a_path_that_cannot_be_one_is_refused(desk: Desk) -> None:
    status, told = await desk.ask({"conditions": [file("a\0b")], "timeout": 5})

    assert (status, told["code"]) == (400, "INVALID_FILE_PATH")
