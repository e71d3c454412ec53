"""Edits are made all together, tell what they did, and can be taken back."""

import asyncio
import hashlib
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.files.edits.journal import UNDO_MAX
from agent.files.edits.view import FILE_MAX_BYTES
from tests.files.conftest import Agent, strays
from tests.files.edits.conftest import Send, serve_edits


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def write(path: str, content: str, **fields: Any) -> dict[str, Any]:
    return {"type": "write", "path": path, "content": content, **fields}


def replace(path: str, old: str, new: str, **fields: Any) -> dict[str, Any]:
    return {"type": "replace", "path": path, "old": old, "new": new, **fields}


def insert(path: str, line: int, text: str) -> dict[str, Any]:
    return {"type": "insert", "path": path, "line": line, "text": text}


def delete(path: str, **fields: Any) -> dict[str, Any]:
    return {"type": "delete", "path": path, **fields}


def move(path: str, destination: str) -> dict[str, Any]:
    return {"type": "move", "path": path, "destination": destination}


def run(*words: str) -> None:
    subprocess.run(words, check=True)


def contents(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


async def test_every_kind_of_edit_is_made_and_told(agent: Agent, edit: Send) -> None:
    work = agent.work_dir
    for name in ("written", "replaced", "inserted", "deleted", "moved", "patched"):
        (work / name).write_text("one\ntwo\nthree\n")
    diff = "--- a/x\n+++ b/x\n@@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n"

    status, answer = await edit(
        write("written", "new"),
        write("made/for/it", "made"),
        replace("replaced", "t", "T", count=2),
        insert("inserted", 2, "between"),
        delete("deleted"),
        move("moved", "place/moved"),
        {"type": "diff", "path": "patched", "diff": diff},
    )

    assert status == 200
    expected = {
        "written": b"new",
        "made/for/it": b"made",
        "replaced": b"one\nTwo\nThree\n",
        "inserted": b"one\nbetween\ntwo\nthree\n",
        "place/moved": b"one\ntwo\nthree\n",
        "patched": b"one\n2\nthree\n",
    }
    assert contents(work) == expected
    told = {each["path"]: each for each in answer["files"]}
    assert {p: each["sha256"] for p, each in told.items() if each["sha256"]} == {
        path: sha(content) for path, content in expected.items()
    }
    assert told["deleted"]["sha256"] is None
    assert told["made/for/it"]["previousSha256"] is None
    assert "-two\n+2\n" in told["patched"]["diff"]


async def test_edits_of_one_file_see_each_other(agent: Agent, edit: Send) -> None:
    (agent.work_dir / "link").symlink_to("f")

    status, answer = await edit(
        write("f", "a\n"),
        replace("link", "a", "b"),
        insert("./f", 2, "c"),
        move("f", "g"),
        write("f", "again"),
    )

    assert status == 200
    assert contents(agent.work_dir) == {"f": b"again", "g": b"b\nc", "link": b"again"}
    assert [each["path"] for each in answer["files"]] == ["f", "g"]


REFUSED: list[tuple[dict[str, Any], int, str]] = [
    (replace("f", "none", "x"), 409, "f: the text is there 0 times, not 1"),
    (replace("f", "o", "x", count=1), 409, "f: the text is there 2 times, not 1"),
    (replace("gone", "o", "x"), 404, "file not found: gone"),
    (insert("f", 4, "x"), 409, "f: there is no line 4: the file has 2"),
    (delete("gone"), 404, "file not found: gone"),
    (delete("link"), 400, "invalid file path: links are neither moved nor"),
    (move("f", "g"), 409, "g: destination already exists"),
    (move("f", "d"), 400, "invalid file path: is a directory: d"),
    (write("d", "x"), 400, "invalid file path: is a directory: d"),
    (write("pipe", "x"), 400, "invalid file path: not a regular file: pipe"),
    (write("f/x", "x"), 400, "invalid file path: not a directory: f/x"),
    (write("f", "x", sha256="0" * 64), 409, "f: the content has another sha256"),
    (write("no", "x", sha256="0" * 64), 409, "no: the file is not there"),
    (write("f", "x", modifiedAt="2001-01-01T00:00:00Z"), 409, "f: the file was mod"),
    (write("f", "x", modifiedAt="today"), 400, "modifiedAt is no RFC 3339 time: today"),
    (write("f", "x" * (FILE_MAX_BYTES + 1)), 413, "f: larger than"),
    ({"type": "diff", "path": "f", "diff": "?"}, 400, "f: the diff has no hunk"),
    (
        {"type": "diff", "path": "f", "diff": "@@ -1 +1 @@\n-x\n+y\n"},
        409,
        "f: hunk 1 of the diff does not apply",
    ),
    ({"type": "write", "path": "f"}, 400, "invalid request body"),
    ({"type": "chmod", "path": "f"}, 400, "invalid request body"),
    (write("", "x"), 400, "invalid request body"),
    (write("\0", "x"), 400, "invalid file path: it contains a NUL byte"),
]


@pytest.mark.parametrize(("refused", "status", "message"), REFUSED)
async def test_one_edit_that_cannot_be_made_prevents_all(
    agent: Agent, edit: Send, refused: dict[str, Any], status: int, message: str
) -> None:
    work = agent.work_dir
    (work / "f").write_text("one\ntwo\n")
    (work / "g").write_text("g")
    (work / "d").mkdir()
    (work / "link").symlink_to("f")
    os.mkfifo(work / "pipe")
    before = contents(work)

    found, answer = await edit(write("new/first", "x"), write("g", "G"), refused)

    assert (found, answer["message"][: len(message)]) == (status, message)
    assert contents(work) == before
    assert not (work / "new").exists()


async def test_expectations_that_hold_are_let_through(agent: Agent, edit: Send) -> None:
    (agent.work_dir / "f").write_text("old")
    async with agent.client.get(agent.at("/files/info", "f")) as response:
        moment = (await response.json())["modifiedAt"]

    status, _ = await edit(
        write("f", "new", sha256=sha(b"old"), modifiedAt=moment),
        write("f", "newer", sha256=sha(b"old")),
    )

    assert status == 200
    assert contents(agent.work_dir) == {"f": b"newer"}


async def test_a_dry_run_tells_and_changes_nothing(agent: Agent, edit: Send) -> None:
    (agent.work_dir / "f").write_text("old\n")

    status, answer = await edit(write("f", "new\n"), write("d/g", "x"), dryRun=True)

    assert (status, answer["id"]) == (200, None)
    assert "-old\n+new\n" in answer["files"][0]["diff"]
    assert contents(agent.work_dir) == {"f": b"old\n"}
    assert not (agent.state_dir / "edits").exists()


async def test_edits_that_change_nothing_are_no_edit(agent: Agent, edit: Send) -> None:
    (agent.work_dir / "f").write_text("same")
    before = (agent.work_dir / "f").stat()

    status, answer = await edit(write("f", "other"), write("f", "same"))

    assert (status, answer) == (200, {"id": None, "files": []})
    assert (agent.work_dir / "f").stat() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to others")
async def test_a_file_keeps_mode_owner_and_attributes(
    agent: Agent, edit: Send, undo: Send
) -> None:
    for name in ("f", "moved", "deleted"):
        path = agent.work_dir / name
        path.write_text("old")
        os.chown(path, 12, 34)
        path.chmod(0o4750)
        os.setxattr(path, "user.note", b"kept")

    _, answer = await edit(write("f", "new"), move("moved", "d/new"), delete("deleted"))
    new = [agent.work_dir / name for name in ("f", "d/new")]
    after = [(path.stat(), os.getxattr(path, "user.note")) for path in new]
    await undo(answer["id"])

    back = [agent.work_dir / name for name in ("f", "moved", "deleted")]
    after += [(path.stat(), os.getxattr(path, "user.note")) for path in back]
    for status, note in after:
        assert (status.st_uid, status.st_gid) == (12, 34)
        assert stat.S_IMODE(status.st_mode) == 0o4750
        assert note == b"kept"


async def test_an_edit_is_taken_back_and_made_again(
    agent: Agent, edit: Send, undo: Send
) -> None:
    work = agent.work_dir
    (work / "f").write_bytes(b"old\xff\0")
    (work / "gone").write_text("gone")
    (work / "moved").write_text("moved")
    before = contents(work)
    _, made = await edit(
        write("f", "new"), delete("gone"), move("moved", "a/b/c"), write("x", "y")
    )
    after = contents(work)

    status, taken_back = await undo(made["id"])
    assert status == 200
    assert contents(work) == before
    assert not (work / "a").exists()
    status, _ = await undo(taken_back["id"])

    assert status == 200
    assert contents(work) == after
    assert (await undo(made["id"]))[0] == 404


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda work: (work / "f").write_text("mine"), "f: was changed since the edit"),
        (lambda work: (work / "f").unlink(), "f: is not there any more"),
        (lambda work: (work / "gone").touch(), "gone: was changed since the edit"),
        (
            lambda work: ((work / "f").unlink(), (work / "f").symlink_to("g")),
            "f: became a link since the edit",
        ),
    ],
)
async def test_what_was_changed_since_is_not_taken_back(
    agent: Agent, edit: Send, undo: Send, change: Any, message: str
) -> None:
    for name in ("f", "g", "gone"):
        (agent.work_dir / name).write_text("old")
    _, made = await edit(write("f", "new"), write("g", "new"), delete("gone"))
    change(agent.work_dir)
    before = contents(agent.work_dir)

    status, answer = await undo(made["id"])

    assert (status, answer["message"]) == (409, message)
    assert contents(agent.work_dir) == before


@pytest.mark.parametrize(
    "name", ["none", "..", "%2e%2e%2f", "0" * 16 + "-0-" + "0" * 16]
)
async def test_an_edit_that_is_not_known_is_not_found(
    agent: Agent, undo: Send, name: str
) -> None:
    status, answer = await undo(name)

    assert (status, answer["code"]) == (404, "NOT_FOUND")
    assert agent.state_dir.exists()


async def test_undo_outlives_the_agent(tmp_path: Path) -> None:
    work, state = tmp_path / "work", tmp_path / "state"
    work.mkdir()
    state.mkdir(0o700)
    (work / "f").write_text("old")
    body = {"edits": [write("f", "new")]}
    async with (
        serve_edits(work, state) as agent,
        agent.client.post(agent.at("/files/edit"), json=body) as response,
    ):
        name = (await response.json())["id"]

    async with (
        serve_edits(work, state) as agent,
        agent.client.post(agent.at(f"/files/edit/{name}/undo")) as response,
    ):
        assert response.status == 200

    assert (work / "f").read_text() == "old"


async def test_the_oldest_edits_can_be_undone_no_more(
    agent: Agent, edit: Send, undo: Send
) -> None:
    names = [
        (await edit(write("f", str(number))))[1]["id"] for number in range(UNDO_MAX + 1)
    ]

    assert len(list((agent.state_dir / "edits").glob("*-*-*"))) == UNDO_MAX
    assert (await undo(names[0]))[0] == 404
    assert (await undo(names[-1]))[0] == 200


async def test_edits_at_once_never_mix(agent: Agent, edit: Send) -> None:
    names = ["a", "b", "c"]
    old = {name: sha(b"0") for name in names}
    await edit(*(write(name, "0") for name in names))

    answers = await asyncio.gather(
        *(
            edit(*(write(name, str(number), sha256=old[name]) for name in names))
            for number in range(1, 9)
        )
    )

    assert sorted(status for status, _ in answers) == [200, *[409] * 7]
    assert len(set(contents(agent.work_dir).values())) == 1


async def test_edits_at_once_that_can_compose_do(agent: Agent, edit: Send) -> None:
    await edit(write("f", "".join(f"<{number}>\n" for number in range(20))))

    await asyncio.gather(
        *(edit(replace("f", f"<{number}>", f"[{number}]")) for number in range(20))
    )

    expected = "".join(f"[{number}]\n" for number in range(20))
    assert (agent.work_dir / "f").read_text() == expected


@pytest.fixture
def disk(agent: Agent) -> Iterator[Path]:
    """Give a small file system of its own, below the work dir."""
    directory = agent.work_dir / "disk"
    directory.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", directory], check=True
    )
    yield directory
    subprocess.run(["umount", directory], check=True)


async def test_a_full_disk_leaves_the_old_content(
    agent: Agent, edit: Send, disk: Path
) -> None:
    (agent.work_dir / "f").write_text("old")
    (disk / "f").write_text("old")

    status, answer = await edit(
        write("f", "new"), write("disk/f", "x" * 300_000), write("disk/d/g", "new")
    )

    assert (status, answer["code"]) == (507, "INSUFFICIENT_STORAGE")
    assert contents(agent.work_dir) == {"f": b"old", "disk/f": b"old"}
    assert strays(agent.work_dir) == []
    assert not (disk / "d").exists()


async def test_a_mounted_file_is_a_conflict(agent: Agent, edit: Send) -> None:
    work = agent.work_dir
    (work / "f").write_text("old")
    (work / "g").write_text("old")
    await asyncio.to_thread(run, "mount", "--bind", str(work / "g"), str(work / "f"))
    try:
        status, answer = await edit(write("new", "x"), write("f", "new"))
    finally:
        await asyncio.to_thread(run, "umount", str(work / "f"))

    assert status == 409
    assert answer["message"].startswith("f: a file that is mounted")
    assert contents(work) == {"f": b"old", "g": b"old"}


async def test_text_that_is_half_a_surrogate_pair_is_refused(agent: Agent) -> None:
    body = b'{"edits":[{"type":"write","path":"f","content":"\\ud800"}]}'

    async with agent.client.post(agent.at("/files/edit"), data=body) as response:
        assert response.status == 400

    assert contents(agent.work_dir) == {}


@pytest.mark.parametrize(
    ("field", "name", "status", "message"),
    [
        (b'"write","content":"x","path"', b"\\udcff", 400, "request body is not valid"),
        (b'"write","content":"x","path"', b"\xff", 400, "request body is not valid"),
        (b'"move","path":"f","destination"', b"\xff", 400, "request body is not valid"),
        (b'"delete","path"', b"\\ufffd", 404, "file not found: \ufffd"),
    ],
)
async def test_a_file_whose_name_is_not_utf_8_cannot_be_named(
    agent: Agent, field: bytes, name: bytes, status: int, message: str
) -> None:
    strange = Path(os.fsdecode(os.fsencode(agent.work_dir) + b"/\xff"))
    await asyncio.to_thread(strange.write_text, "old")
    (agent.work_dir / "f").write_text("old")
    body = b'{"edits":[{"type":%s:"%s"}]}' % (field, name)

    async with agent.client.post(agent.at("/files/edit"), data=body) as response:
        answer = await response.json()

    assert (response.status, message in answer["message"]) == (status, True), answer
    assert contents(agent.work_dir) == {"f": b"old", strange.name: b"old"}


async def test_an_edit_goes_through_links_and_leaves_them(
    agent: Agent, edit: Send
) -> None:
    work = agent.work_dir
    (work / "d").mkdir()
    (work / "d/file").write_text("one")
    (work / "link").symlink_to("d/file")
    (work / "way").symlink_to("d")

    status, answer = await edit(
        replace("link", "one", "two"), replace("way/file", "two", "three")
    )

    assert status == 200
    assert [each["path"] for each in answer["files"]] == ["link"]
    assert (work / "d/file").read_text() == "three"
    assert (work / "link").readlink() == Path("d/file")
    assert (work / "way").readlink() == Path("d")


async def test_an_edited_name_of_a_file_with_several_is_a_file_of_its_own(
    agent: Agent, edit: Send, undo: Send
) -> None:
    work = agent.work_dir
    (work / "one").write_text("old")
    (work / "other").hardlink_to(work / "one")

    _, answer = await edit(write("one", "new"))

    assert contents(work) == {"one": b"new", "other": b"old"}
    assert (work / "other").stat().st_nlink == 1
    await undo(answer["id"])
    assert contents(work) == {"one": b"old", "other": b"old"}
    assert not (work / "one").samefile(work / "other")
