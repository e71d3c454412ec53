"""Finding text: both engines give the contract's answers, and the same ones."""

import asyncio
import json
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
from agent.files.search import searches
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


def asked(root: Path, pattern: str, **options: Any) -> Request:
    """Return the request for a text below a directory that is told as the work dir."""
    return Request(
        kind="text",
        root=str(root),
        shown="",
        shown_root=".",
        root_name=".",
        pattern=pattern,
        **options,
    )


def answer_of(request: Request, before: str = "") -> bytes:
    """Return what the program prints; `before` is what it does first."""
    words = [*searches.INTERPRETER, "-c", before + PROGRAM, request.to_argument()]
    return subprocess.run(words, check=True, capture_output=True).stdout


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
async def test_a_late_nul_byte_hides_nothing(house: House, engine: str) -> None:
    filling = b"y" * 100 + b"\n"
    fill(
        house.work_dir,
        {
            "after": filling * 5000 + b"\0\nx\n",
            "around": filling * 6 + b"x\n" + filling * 5000 + b"\0x\0\nx\n",
            "before": filling * 6 + b"x\n" + filling * 5000 + b"\0\n",
            "binary": b"\0" + filling * 5000 + b"x\n",
            "c": b"x\n",
        },
    )

    found = await house.text("x", engine=engine)

    assert found.places == [
        ("after", 5002),
        ("around", 7),
        ("around", 5008),
        ("around", 5009),
        ("before", 7),
        ("c", 1),
    ]


@needs_ripgrep
async def test_names_that_read_like_ripgreps_words_are_names(house: House) -> None:
    words = ': binary file matches (found "\\0" byte around offset 1)'
    late = b"y" * 600 + b"\n\0\nx\n"
    fill(
        house.work_dir,
        {
            "a": late,
            f"a{words}": b"x\n",
            f"a{words}\nb": b"x\n",
            "b": b"x\n",
            f"d{words}{words}": late,
            f"e{words}\n": late,
            "z\nz": late,
        },
    )
    root = str(house.work_dir)

    found = await house.text("x", root, engine="ripgrep")
    # Below it is what ripgrep would print next of the file `b` itself.
    fill(house.work_dir, {f"a{words}\n{root}/b": b"x\n"})
    misleading = await house.text("x", root)

    assert [place.removeprefix(root + "/") for place, _ in found.places] == [
        "a",
        f"a{words}",
        f"a{words}\nb",
        "b",
        f"d{words}{words}",
        f"e{words}\n",
        "z\nz",
    ]
    assert [line for _, line in found.places] == [3, 1, 1, 1, 3, 3, 3]
    assert misleading.found.engine == "python"
    assert len(misleading.places) == len(found.places) + 1


@engines
async def test_letters_that_json_or_we_ourselves_use_come_through(
    house: House, engine: str
) -> None:
    lines = ['"x\\', "\x7ffx\x7fn\x7fc", "x\x01\t\ud800", "\U0001f600x\u2028", "x\r\r"]
    raw = "\n".join(lines).encode("utf-8", "surrogatepass") + b"\nx\xff\xc3\n"
    fill(house.work_dir, {"f": raw, 'g"\x7fn\\': b"x\n", "h\n\x7f": b"x\n"})

    found = await house.text("x", engine=engine)

    assert [each["content"] for each in found.value] == [
        '"x\\',
        "\x7ffx\x7fn\x7fc",
        "x\x01\t" + "\ufffd" * 3,
        "\U0001f600x\u2028",
        "x\r",
        "x\ufffd\ufffd",
        "x",
        "x",
    ]
    assert found.places[-2:] == [('g"\x7fn\\', 1), ("h\n\x7f", 1)]


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

    try:
        found = await house.text("x", engine=engine)
    finally:
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


@needs_ripgrep
def test_more_than_can_be_collected_is_passed_on_in_order(tmp_path: Path) -> None:
    names = ["a/z", "a.txt", "a-b/c", "Z", "late"]
    fill(tmp_path, dict.fromkeys(names, b"some x, and more\n" * 3000))
    fill(tmp_path, {"late": b"y" * 600 + b"\n\0x\n", "binary": b"\0x\n"})
    request = asked(tmp_path, "x", ripgrep=shutil.which("rg"))
    bounded = "import resource as r; r.setrlimit(r.RLIMIT_FSIZE, (50_000, 50_000));"

    whole, in_order = answer_of(request), answer_of(request, before=bounded)

    assert in_order == whole
    assert b'"engine":"ripgrep"' in whole
    assert b'"count":12001,' in whole


def test_what_ripgrep_has_found_when_the_time_is_up_is_told(tmp_path: Path) -> None:
    slow = tmp_path / "rg"
    slow.write_text(
        "#!/bin/sh\n"
        "for root; do :; done\n"
        "for name in b a c; do"
        """ printf '%s%s\\000%s\\000\\000%s\\n' "$root" $name 7 "x"; done\n"""
        "exec sleep 60\n"
    )
    slow.chmod(0o755)
    request = asked(tmp_path, "x", ripgrep=str(slow), limit_s=0.5)

    body, _, note = answer_of(request).rstrip().rpartition(b"\n")

    assert [(each["file"], each["line"]) for each in json.loads(body)] == [
        ("a", 7),
        ("b", 7),
        ("c", 7),
    ]
    assert json.loads(note)["cut"] == "time"
    # What comes behind is not known, because they came in no order.
    assert json.loads(note)["position"] is None


@needs_ripgrep
async def test_files_that_wait_for_ever_are_left_to_the_other_engine(
    house: House,
) -> None:
    found = await house.text("x", "/proc/sys/kernel")

    assert found.found.engine == "python"
    assert found.found.cut == ""


def test_ripgrep_is_looked_for_on_the_path_and_beside_the_interpreter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("path", "beside"):
        (tmp_path / place).mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "beside/python"))
    found = [searches.ripgrep()]
    for place in ("beside", "path"):
        (tmp_path / place / "rg").touch(0o755)
        found.append(searches.ripgrep())

    assert found == [None, str(tmp_path / "beside/rg"), str(tmp_path / "path/rg")]


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
        asked(
            root,
            pattern,
            ignore_case=ignore_case,
            context=context,
            max_results=max_results,
            ripgrep=ripgrep,
        )
        for ripgrep in (None, shutil.which("rg"))
    ]

    found = [answer_of(each).rpartition(b'"engine"')[0] for each in requests]

    assert found[0] == found[1]


async def test_a_search_whose_client_left_is_ended(house: House) -> None:
    fill(house.work_dir, {"f": b"a" * 60 + b"b\n"})
    owner = Searches(house.keeper, str(house.work_dir), with_ripgrep=False)
    ask = await owner.prepare("text", ".", "(a+)+$", Options(regex=True), lambda: True)

    with pytest.raises(ConnectionResetError):
        await ask.__aenter__()

    await owner.aclose()
    assert await house.keeper.list() == ()


async def test_an_answer_longer_than_its_note_is_passed_on_in_pieces(
    house: House,
) -> None:
    fill(house.work_dir, {"f": b"x" * 99 + b"\n"})
    fill(house.work_dir, {"g": (b"x" * 99 + b"\n") * 40_000})

    found = await house.text("x")

    assert found.found.count == len(found.value) == 40_001
    assert {each["content"] for each in found.value} == {"x" * 99}
