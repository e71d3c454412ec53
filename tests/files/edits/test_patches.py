"""What one side makes of a difference, the other side applies; so do the usual tools."""

import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from agent.errors import ConflictError, InvalidRequestError
from agent.files.edits.diffs import COMPARED_LINES, DIFF_MAX_BYTES, diff_of
from agent.files.edits.patches import apply_diff, lines_of

CONTENTS = st.lists(
    st.sampled_from([b"", b"a", b"b", b"c", b"same", b"\r", b"- x", b"+++ y"]),
    max_size=30,
).map(b"\n".join)


@settings(max_examples=300, deadline=None)
@given(CONTENTS, CONTENTS)
def test_a_diff_makes_the_new_content_of_the_old(old: bytes, new: bytes) -> None:
    diff = diff_of("f", old, new)

    made = apply_diff(old, diff.text.encode()) if diff.text else old

    assert made == new


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(CONTENTS, CONTENTS)
def test_git_applies_our_diffs_and_we_apply_its(
    tmp_path: Path, old: bytes, new: bytes
) -> None:
    (tmp_path / "f").write_bytes(old)
    (tmp_path / "g").write_bytes(new)
    ours = diff_of("f", old, new).text.encode()

    words = ["git", "diff", "--no-index", "--no-color", "f", "g"]
    theirs = subprocess.run(
        words, check=False, cwd=tmp_path, stdout=subprocess.PIPE
    ).stdout
    if ours:
        subprocess.run(
            ["git", "apply", "--whitespace=nowarn", "-"],
            check=True, cwd=tmp_path, input=ours,
        )  # fmt: skip

    assert (tmp_path / "f").read_bytes() == new
    assert (apply_diff(old, theirs) if theirs else old) == new


def test_a_long_difference_is_shown_whole_and_still_true() -> None:
    old = b"".join(b"%d\n" % number for number in range(COMPARED_LINES))
    new = b"".join(b"%d\n" % (number * 2) for number in range(COMPARED_LINES))

    diff = diff_of("f", old, new)

    assert apply_diff(old, diff.text.encode()) == new


def test_a_diff_past_its_bound_is_cut_and_says_so() -> None:
    diff = diff_of("f", b"", b"x" * 100 + b"\n" + b"line\n" * DIFF_MAX_BYTES)

    assert diff.cut
    assert len(diff.text) <= DIFF_MAX_BYTES
    assert diff.text.endswith("+line\n")


def test_what_is_binary_is_only_named() -> None:
    assert "Binary files differ" in diff_of("f", b"a\0", b"b").text


@pytest.mark.parametrize(
    ("old", "new", "head"),
    [(None, b"a\n", "--- /dev/null\n+++ b/f\n"), (b"a\n", None, "--- a/f\n+++ /dev/")],
)
def test_files_that_come_and_go_are_diffs_too(
    old: bytes | None, new: bytes | None, head: str
) -> None:
    text = diff_of("f", old, new).text

    assert text.startswith(head)
    assert apply_diff(old, text.encode()) == new


def test_a_hunk_is_found_where_its_lines_went() -> None:
    diff = b"@@ -1,2 +1,2 @@\n a\n-b\n+B\n"

    assert apply_diff(b"1\n2\n3\na\nb\nc\n", diff) == b"1\n2\n3\na\nB\nc\n"


def test_hunks_that_moved_stay_in_their_order() -> None:
    old = b"x\n" * 5 + b"a\n" + b"y\n" * 5 + b"a\n"
    diff = b"@@ -1 +1 @@\n-a\n+1\n@@ -7 +7 @@\n-a\n+2\n"

    assert apply_diff(old, diff) == b"x\n" * 5 + b"1\n" + b"y\n" * 5 + b"2\n"


@pytest.mark.parametrize("old", [b"", b"other\n", None, b"a\nx\nb\n"])
def test_a_hunk_whose_lines_are_not_there_is_a_conflict(old: bytes | None) -> None:
    with pytest.raises(ConflictError):
        apply_diff(old, b"@@ -1,2 +1,2 @@\n a\n-b\n+B\n")


@pytest.mark.parametrize(
    "diff",
    [
        b"",
        b"hello",
        b"@@ -1,2 +1,2 @@\n a\n",
        b"@@ -1 +1 @@\n-a\n+b\n+c\n",
        b"@@ -1 +1 @@\n-a\n+b\n--- a/g\n+++ b/g\n@@ -1 +1 @@\n-a\n+b\n",
        b"@@ -1 +1 @@\n*a\n+b\n",
        b"@@ -1,99999999999 +1 @@\n-a\n",
    ],
)
def test_what_is_no_diff_of_one_file_is_refused(diff: bytes) -> None:
    with pytest.raises(InvalidRequestError):
        apply_diff(b"a\n", diff)


@pytest.mark.parametrize("content", [b"", b"a", b"a\n", b"\n\n", b"a\r\nb\x0cc"])
def test_only_line_feeds_end_lines(content: bytes) -> None:
    lines = lines_of(content)

    assert b"".join(lines) == content
    assert len(lines) == content.count(b"\n") + (not content.endswith(b"\n") and bool(content))  # fmt: skip
