"""Finding names by the contract's globs."""

import os
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from agent.errors import InvalidRequestError
from agent.files.search.engine.globs import name_test, widened
from tests.files.search.conftest import House
from tests.files.search.test_text import fill


@pytest.mark.parametrize(
    ("glob", "matching", "others"),
    [
        ("*", ["a", ".x", "a.b", "\udcff", "a\nb"], ["/"]),
        ("?", ["a", "é", "\udcff"], ["", "ab"]),
        ("a", ["a"], ["A", "ab", "ba"]),
        ("*.py", ["x.py", ".py"], ["x.pyc", "py"]),
        ("a*b*c", ["abc", "axbxbxc"], ["acb", "abcd"]),
        ("[abc]", ["a", "c"], ["d", "[abc]"]),
        ("[a-c]x", ["bx"], ["dx"]),
        ("[^a]", ["b", "!"], ["a", ""]),
        ("[!a]", ["!", "a"], ["b"]),
        ("[a^]", ["a", "^"], ["b"]),
        (r"\*", ["*"], ["a", "\\*"]),
        (r"[\]]", ["]"], ["a", "\\"]),
        (r"[\-x]", ["-", "x"], ["a"]),
        ("[c-a]", [], ["a", "b", "c"]),
        ("[^c-a]", ["a", "b"], []),
        ("{a,b}", ["{a,b}"], ["a", "b"]),
        ("a.c", ["a.c"], ["abc"]),
        ("**", ["a", "ab"], []),
        ("a$", ["a$"], ["a"]),
    ],
)
def test_globs_mean_what_the_contract_says(
    glob: str, matching: list[str], others: list[str]
) -> None:
    test = name_test(glob)

    assert [name for name in matching + others if test(name)] == matching


@pytest.mark.parametrize(
    "glob", ["a[", "[", "[]", "[^]", "[]a]", "[-a]", "[a-]", "a\\", "[a\\", "[a"]
)
def test_malformed_globs_match_nothing(glob: str) -> None:
    test = name_test(glob)

    assert not any(map(test, [glob, "a", "", "[", "a[", "]", "-", "a]"]))


def test_a_glob_of_many_runs_takes_no_time() -> None:
    assert not name_test("*a" * 100 + "b")("a" * 255)


@given(
    st.text(alphabet="ab*?[]^-\\.:{}!,", max_size=8),
    st.text(alphabet="ab^-\\.:{}!,", max_size=6),
)
def test_the_plain_form_of_a_glob_matches_at_least_as_much(
    glob: str, name: str
) -> None:
    if name_test(glob)(name):
        assert name_test(widened(glob))(name)


async def test_names_come_as_a_walk_meets_them_root_included(house: House) -> None:
    fill(house.work_dir, {"d/b/x": b"", "d/b.x": b"", "d/.h": b"", "d/B": b""})
    (house.work_dir / "d/link").symlink_to("b")
    (house.work_dir / "d/dangling").symlink_to("nowhere")
    os.mkfifo(house.work_dir / "d/fifo")

    found = await house.names("*", "d")

    assert found == [
        "d",
        "d/.h",
        "d/B",
        "d/b",
        "d/b/x",
        "d/b.x",
        "d/dangling",
        "d/fifo",
        "d/link",
    ]


@pytest.mark.parametrize(
    ("root", "found"),
    [
        (".", [".", "d", "d/x", "f"]),
        ("d", ["d", "d/x"]),
        ("d/", ["d", "d/x"]),
        ("link", ["link", "link/x"]),
        ("f", ["f"]),
    ],
)
async def test_paths_begin_with_the_root(
    house: House, root: str, found: list[str]
) -> None:
    fill(house.work_dir, {"d/x": b"", "f": b""})
    if root == "link":
        (house.work_dir / "link").symlink_to("d")

    assert await house.names("*", root) == found


async def test_only_base_names_are_looked_at(house: House) -> None:
    fill(house.work_dir, {"abc/d": b"", "abc/abc.py": b""})

    assert await house.names("abc") == ["abc"]
    assert await house.names("abc/d") == []
    assert await house.names("b") == []


async def test_names_that_are_no_utf8_are_found(house: House) -> None:
    fill(Path(os.fsdecode(os.fsencode(house.work_dir) + b"/\xff")), {"f": b""})

    assert await house.names("?") == [".", "\ufffd", "\ufffd/f"]


async def test_additions(house: House) -> None:
    fill(house.work_dir, {"a.PY": b"", "skip/b.py": b"", "c.txt": b"", "o.log": b""})
    fill(house.work_dir, {".gitignore": b"*.log\n"})

    assert await house.names("*.py", ignore_case=True) == ["a.PY", "skip/b.py"]
    assert await house.names("*.py", ignore_case=True, exclude=("sk*",)) == ["a.PY"]
    assert await house.names(r"^[ac]\.", regex=True) == ["a.PY", "c.txt"]
    found = await house.names("?*.*", gitignore=True, include=("[co]*",))
    assert found == ["c.txt"]
    with pytest.raises(InvalidRequestError):
        await house.names("(", regex=True)


async def test_pages_together_are_the_whole(house: House) -> None:
    fill(house.work_dir, {f"{name}/f{i}": b"" for name in "ab" for i in "12"})
    fill(house.work_dir, {"a-b": b""})
    whole = await house.names("*")
    paged, cursor = [], ""

    for _ in whole:
        page = await house.search("names", "*", max_results=1, cursor=cursor)
        paged += page.value["files"]
        cursor = page.found.cursor

    assert paged == whole
    assert cursor == ""


async def test_an_expression_without_end_is_ended_by_the_clock(house: House) -> None:
    fill(house.work_dir, {"a" * 60 + "b": b""})

    found = await house.search("names", "(a+)+$", regex=True, bounds={"limit_s": 0.5})

    assert found.found.cut == "time"
    assert found.value == {"files": []}
