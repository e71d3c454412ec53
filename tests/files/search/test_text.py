"""Finding text: both engines give the contract's answers, and the same ones."""

import asyncio
import os
import shutil
import signal
import stat
import subprocess
import sys
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from agent.errors import InvalidRequestError, UnavailableError
from agent.files.deletion import delete
from agent.files.search.engine.bounds import CONTENT_MAX_BYTES
from agent.files.search.engine.request import Request
from agent.files.search.searches import PROGRAM, Options, Searches
from tests.files.search.conftest import House
from tests.support.processes import tree

needs_ripgrep = pytest.mark.skipif(shutil.which("rg") is None, reason="no ripgrep")
engines = pytest.mark.parametrize(
    "engine",
    [pytest.param("ripgrep", marks=needs_ripgrep), pytest.param("python")],
)


def fill(root: Path, files: dict[str, bytes]) -> None:
    """Write files, their directories made."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


@engines
async def test_files_come_as_a_walk_meets_them(house: House, engine: str) -> None:
    names = ["a/z", "a.txt", "a-b/c", "Z", ".hidden/x", ".git/x", "node_modules/y", "é"]
    fill(house.work_dir, dict.fromkeys(names, b"x\n"))

    found = await house.text("x", engine=engine)

    assert [place for place, _ in found.places] == [
        ".git/x",
        ".hidden/x",
        "Z",
        "a/z",
        "a-b/c",
        "a.txt",
        "node_modules/y",
        "é",
    ]


@engines
async def test_a_line_is_told_once_whole_and_without_its_end(
    house: House, engine: str
) -> None:
    fill(house.work_dir, {"f": b"no\nx x x\r\n\n  x\r\r\nlast x"})

    found = await house.text("x", engine=engine)

    assert [(each["line"], each["content"]) for each in found.value] == [
        (2, "x x x"),
        (4, "  x\r"),
        (5, "last x"),
    ]


@engines
async def test_the_text_is_literal(house: House, engine: str) -> None:
    fill(house.work_dir, {"f": b"a.c\nabc\nA.C\n-e\n(a+)+$\n[\n"})

    for text, lines in [("a.c", [1]), ("-e", [4]), ("(a+)+$", [5]), ("[", [6])]:
        found = await house.text(text, engine=engine)
        assert [line for _, line in found.places] == lines


@engines
async def test_texts_with_line_ends_match_no_line(house: House, engine: str) -> None:
    fill(house.work_dir, {"f": b"a\r\nb\rc\nd\r\r\n"})

    assert (await house.text("a\r")).places == []
    assert (await house.text("a\nb")).places == []
    assert (await house.text("b\rc", engine=engine)).places == [("f", 2)]
    assert (await house.text("d\r", engine=engine)).places == [("f", 3)]


@engines
async def test_files_are_binary_by_their_first_512_bytes(
    house: House, engine: str
) -> None:
    fill(
        house.work_dir,
        {
            "binary": b"y" * 511 + b"\0\nx\n",
            "late": b"y" * 512 + b"\0x\nx\n",
            "utf16": "\ufeffx\nx\n".encode("utf-16-le"),
            "bom": b"\xef\xbb\xbfx\n",
            "empty": b"",
            "latin": b"\xe9x\n",
        },
    )

    found = await house.text("x", engine=engine)

    assert found.places == [("bom", 1), ("late", 1), ("late", 2), ("latin", 1)]
    assert found.value[-1]["content"] == "\ufffdx"
    assert found.value[1]["content"].endswith("y\0x")


@engines
async def test_a_text_with_a_nul_byte_is_found(house: House, engine: str) -> None:
    fill(house.work_dir, {"late": b"y" * 512 + b"\na\0b\nab\n"})

    # Ripgrep cannot be given such a text, so it is not asked.
    found = await house.text("a\0b", engine="python")

    assert found.places == [("late", 2)], engine


@engines
async def test_lines_of_any_length_are_matched_and_told_cut(
    house: House, engine: str
) -> None:
    long = b"\xc3\xa9" * 500_000
    fill(house.work_dir, {"f": long + b"x\nx\n", "g": b"y" + long + b"x"})

    found = await house.text("x", engine=engine)

    assert found.places == [("f", 1), ("f", 2), ("g", 1)]
    assert found.found.cut_lines == 2
    assert found.value[0]["content"] == "é" * (CONTENT_MAX_BYTES // 2)
    assert found.value[2]["content"] == "y" + "é" * (CONTENT_MAX_BYTES // 2 - 1)


async def test_a_line_longer_than_memory_allows_is_matched_to_its_end(
    house: House,
) -> None:
    with (house.work_dir / "f").open("wb") as file:
        file.write(b"a" * 1000)
        file.truncate(40 * 2**20)
        file.seek(0, os.SEEK_END)
        file.write(b"needle\nneedle\n")

    found = await house.text("needle", engine="python")

    assert found.places == [("f", 1), ("f", 2)]
    assert found.found.cut_lines == 1


@needs_ripgrep
async def test_a_file_that_ripgrep_cannot_hold_is_left_to_the_other_engine(
    house: House,
) -> None:
    fill(house.work_dir, {"a": b"x\n", "z": b"x\n"})
    with (house.work_dir / "sparse").open("wb") as file:
        file.truncate(2**40)

    found = await house.text("x")

    assert found.places == [("a", 1), ("z", 1)]
    assert found.found.engine == "python"
    assert found.found.cut == ""


@engines
async def test_what_is_no_regular_file_is_passed_by(house: House, engine: str) -> None:
    root = house.work_dir
    fill(root, {"d/f": b"x\n", "other/f": b"x\n"})
    os.mkfifo(root / "d/fifo")
    (root / "d/dangling").symlink_to("nowhere")
    (root / "d/loop").symlink_to(".")
    (root / "d/self").symlink_to("self")
    (root / "d/link").symlink_to("../other")
    (root / "d/file-link").symlink_to("f")
    os.mknod(root / "d/socket", stat.S_IFSOCK | 0o600)

    found = await house.text("x", "d", engine=engine)

    assert found.places == [("d/f", 1)]


@engines
@pytest.mark.parametrize(
    ("root", "places"),
    [
        (".", ["d/f", "f"]),
        ("d", ["d/f"]),
        ("./d//", ["d/f"]),
        ("link", ["link/f"]),
        ("d/../d", ["d/f"]),
        ("f", ["f"]),
        ("./f", ["f"]),
        ("file-link", ["file-link"]),
    ],
)
async def test_paths_begin_with_the_root_as_it_was_asked_for(
    house: House, engine: str, root: str, places: list[str]
) -> None:
    fill(house.work_dir, {"d/f": b"x\n", "f": b"x\n"})
    (house.work_dir / "link").symlink_to("d")
    (house.work_dir / "file-link").symlink_to("f")

    found = await house.text("x", root, engine=engine)
    absolute = await house.text("x", f"{house.work_dir}/{root}", engine=engine)

    wanted = [each.replace("d/../d", "d") for each in places]
    assert [place for place, _ in found.places] == wanted
    assert [p for p, _ in absolute.places] == [f"{house.work_dir}/{p}" for p in wanted]


async def test_a_fifo_as_the_root_holds_nothing(house: House) -> None:
    os.mkfifo(house.work_dir / "fifo")

    assert (await house.text("x", "fifo")).value == []


@engines
async def test_names_may_be_any_bytes(house: House, engine: str) -> None:
    place = Path(os.fsdecode(os.fsencode(house.work_dir) + b"/a\xff\nb:1:"))
    fill(place, {"-x": b"x\n", '"': b"x\n"})

    found = await house.text("x", engine=engine)

    assert found.places == [('a\ufffd\nb:1:/"', 1), ("a\ufffd\nb:1:/-x", 1)]


@engines
async def test_a_deep_tree_is_searched_to_its_end(house: House, engine: str) -> None:
    deep = house.work_dir
    for _ in range(1000):
        deep = deep / "d"
        deep.mkdir()
    fill(deep, {"f": b"x\n"})

    found = await house.text("x", engine=engine)

    # pytest clears up by recursion, which such a tree is too deep for.
    delete(str(house.work_dir / "d"), recursive=True)
    assert found.places == [("d/" * 1000 + "f", 1)]


@engines
async def test_additions(house: House, engine: str) -> None:
    fill(
        house.work_dir,
        {
            "a.py": b"one\nTwo\nthree\nTWO\n",
            "b.txt": b"two\n",
            "skip/c.py": b"two\n",
            "d[x].py": b"two\n",
        },
    )

    async def found(pattern: str, **options: Any) -> list[tuple[str, int]]:
        return (await house.text(pattern, engine=engine, **options)).places

    assert await found("tWo", ignore_case=True, include=("a*",)) == [
        ("a.py", 2),
        ("a.py", 4),
    ]
    assert await found("^t[wx]o$", regex=True, exclude=("skip",)) == [
        ("b.txt", 1),
        ("d[x].py", 1),
    ]
    assert await found("two", include=("*.py",)) == [("d[x].py", 1), ("skip/c.py", 1)]
    assert await found("two", include=(r"d\[[^y]\].py",)) == [("d[x].py", 1)]
    assert await found("two", exclude=("[^b]*",)) == [("b.txt", 1)]
    assert await found("two", include=("a[",)) == []
    with pytest.raises(InvalidRequestError, match="pattern"):
        await found("(", regex=True)


@engines
async def test_context_is_told_around_each_match(house: House, engine: str) -> None:
    fill(house.work_dir, {"f": b"1\n2\nx3\nx4\n5\n6\n7\nx8"})

    found = await house.text("x", engine=engine, context=2)

    assert [(each["line"], each["before"], each["after"]) for each in found.value] == [
        (3, ["1", "2"], ["x4", "5"]),
        (4, ["2", "x3"], ["5", "6"]),
        (8, ["6", "7"], []),
    ]


@engines
async def test_ignored_files_are_left_out_when_asked(house: House, engine: str) -> None:
    rules = b"*.log\n!keep.log\n/top\nbuild/\nsub/**/deep\n# x\n\\#x\na[0-9]\n*.t ?\n"
    names = [
        "x.log", "keep.log", "top", "d/top", "build/f", "d/build/f", "sub/a/b/deep",
        "sub/deep", "#x", "a1", "ab", ".git/config", "d/x.log", "d/only", "d/b.t z",
    ]  # fmt: skip
    fill(house.work_dir, dict.fromkeys(names, b"x\n"))
    fill(house.work_dir, {".gitignore": rules, "d/.gitignore": b"only\n!x.log\n"})

    found = await house.text("x", engine=engine, gitignore=True)

    places = [place for place, _ in found.places if ".gitignore" not in place]
    assert places == ["ab", "d/top", "d/x.log", "keep.log"]


@engines
async def test_pages_together_are_the_whole(house: House, engine: str) -> None:
    fill(house.work_dir, {f"{name}/f{i}": b"x\ny\nx\n" for name in "ab" for i in "12"})
    fill(house.work_dir, {"a-b": b"x\n"})
    whole = (await house.text("x", engine=engine)).value
    pages, cursor = [], ""

    while True:
        page = await house.text("x", engine=engine, max_results=2, cursor=cursor)
        pages.append(page.value)
        cursor = page.found.cursor
        if not page.found.cut:
            break

    assert list(chain.from_iterable(pages)) == whole
    assert [len(page) for page in pages] == [2, 2, 2, 2, 1]
    assert cursor == ""


@engines
async def test_an_answer_has_a_largest_size_and_says_where_it_was_cut(
    house: House, engine: str
) -> None:
    fill(house.work_dir, {"f": b"x\n" * 1000})

    found = await house.text("x", engine=engine, bounds={"max_bytes": 1000})
    rest = await house.text("x", engine=engine, cursor=found.found.cursor)

    assert found.found.cut == "bytes"
    assert found.found.size_bytes <= 1010
    assert len(found.value) + len(rest.value) == 1000
    assert rest.value[0]["line"] == len(found.value) + 1


async def test_an_expression_without_end_is_ended_by_the_clock(house: House) -> None:
    fill(house.work_dir, {"a": b"aaa\n", "f": b"a" * 60 + b"b\n"})

    found = await house.text(
        "(a+)+$", engine="python", regex=True, bounds={"limit_s": 1.0}
    )

    assert found.found.cut == "time"
    assert found.places in ([], [("a", 1)])


@needs_ripgrep
async def test_an_expression_without_end_does_not_hurt_ripgrep(house: House) -> None:
    fill(house.work_dir, {"a": b"aaa\n", "f": b"a" * 100_000 + b"b\n"})

    found = await house.text("(a+)+$", engine="ripgrep", regex=True)

    assert found.places == [("a", 1)]


async def test_a_search_that_is_killed_is_told_as_such(house: House) -> None:
    fill(house.work_dir, {"f": b"a" * 60 + b"b\n"})

    asked = asyncio.create_task(house.text("(a+)+$", engine="python", regex=True))
    while not (jobs := await house.keeper.list()):  # noqa: ASYNC110
        # Each question gives the search time to be started; there is no event for it.
        await asyncio.sleep(0)
    await house.keeper.signal(jobs[0].id, signal.SIGKILL)

    with pytest.raises(UnavailableError, match="ended from outside"):
        await asked
    assert not [pid for pid in tree(jobs[0].pid) if pid != jobs[0].pid]


TEXT = st.text(alphabet="ab\r\n\0é", max_size=20)
TREES = st.dictionaries(
    st.sampled_from(["a", "b", "a/x", "a-b", ".h/y", "c/d/e", "c.d"]), TEXT, max_size=5
)


@needs_ripgrep
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    files=TREES,
    pattern=st.text(alphabet="abé\r", min_size=1, max_size=3),
    ignore_case=st.booleans(),
    context=st.sampled_from([0, 1]),
    max_results=st.sampled_from([0, 1, 3]),
    binary=st.booleans(),
)
@pytest.mark.timeout(60)
def test_both_engines_say_the_same(  # noqa: PLR0917 - hypothesis fills them in
    tmp_path_factory: pytest.TempPathFactory,
    files: dict[str, str],
    pattern: str,
    ignore_case: bool,
    context: int,
    max_results: int,
    binary: bool,
) -> None:
    root = tmp_path_factory.mktemp("tree")
    before = b"" if binary else b"-" * 512 + b"\n"
    for name, text in files.items():
        if not any(other.startswith(name + "/") for other in files):
            fill(root, {name: before + text.encode()})
    requests = [
        Request(
            kind="text",
            root=str(root),
            shown="",
            shown_root=".",
            root_name=".",
            pattern=pattern,
            ignore_case=ignore_case,
            context=context,
            max_results=max_results,
            ripgrep=ripgrep,
        )
        for ripgrep in (None, shutil.which("rg"))
    ]

    found = [
        subprocess.run(
            [sys.executable, "-I", "-S", "-c", PROGRAM, asked.to_argument()],
            check=True,
            capture_output=True,
        ).stdout.rpartition(b'"engine"')[0]
        for asked in requests
    ]

    assert found[0] == found[1]


async def test_a_search_whose_client_left_is_ended(house: House) -> None:
    fill(house.work_dir, {"f": b"a" * 60 + b"b\n"})
    searches = Searches(house.keeper, str(house.work_dir), with_ripgrep=False)
    asked = await searches.prepare(
        "text", ".", "(a+)+$", Options(regex=True), lambda: True
    )

    with pytest.raises(ConnectionResetError):
        await asked.__aenter__()

    await searches.aclose()
    assert await house.keeper.list() == ()


async def test_an_answer_longer_than_its_note_is_passed_on_in_pieces(
    house: House,
) -> None:
    fill(house.work_dir, {"f": b"x" * 99 + b"\n"})
    fill(house.work_dir, {"g": (b"x" * 99 + b"\n") * 40_000})

    found = await house.text("x")

    assert found.found.count == len(found.value) == 40_001
    assert {each["content"] for each in found.value} == {"x" * 99}
