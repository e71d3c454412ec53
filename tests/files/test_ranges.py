"""Ranges and conditions of requests."""

import os
from email.utils import formatdate
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from agent.errors import PreconditionError, RangeError
from agent.files.content import open_content
from agent.files.ranges import MAX_RANGES, Span, Version, boundary, http_date, spans


@pytest.fixture
def version(tmp_path: Path) -> Version:
    path = tmp_path / "a"
    path.write_bytes(b"content")
    os.utime(path, ns=(0, 1_700_000_000_500_000_000))
    content = open_content(str(path), "a")
    found = Version(content)
    content.close()
    return found


DATE = formatdate(1_700_000_000, usegmt=True)
EARLIER = formatdate(1_699_999_999, usegmt=True)
LATER = formatdate(1_700_000_001, usegmt=True)


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        (None, None),
        ("", None),
        ("items=0-1", None),
        ("bytes=0-0", [(0, 1)]),
        ("bytes=0-99", [(0, 10)]),
        ("bytes=3-", [(3, 7)]),
        ("bytes=-3", [(7, 3)]),
        ("bytes=-99", [(0, 10)]),
        ("Bytes = 1-2", [(1, 2)]),
        ("bytes=0-1, 5-6 ,-1", [(0, 2), (5, 2), (9, 1)]),
        ("bytes=0-1,99-100", [(0, 2)]),
        ("bytes=0-9,0-9", None),
        ("bytes=" + "0-0," * (MAX_RANGES + 1), None),
    ],
)
def test_ranges_name_bytes(
    header: str | None, wanted: list[tuple[int, int]] | None
) -> None:
    found = spans(header, 10)

    expected = None if wanted is None else [Span(*each) for each in wanted]
    assert found == expected


@pytest.mark.parametrize(
    "header",
    ["bytes=10-", "bytes=5-4", "bytes=-0", "bytes=-", "bytes=", "bytes=a-b", "bytes=0-1,x", "bytes=1", "bytes=--1", "bytes=0x1-2", "bytes=\u0660-\u0661"],
)  # fmt: skip
def test_ranges_outside_or_malformed_are_refused(header: str) -> None:
    with pytest.raises(RangeError) as caught:
        spans(header, 10)

    assert caught.value.size_bytes == 10


@given(st.text(max_size=30), st.integers(0, 100))
def test_whatever_is_asked_lies_inside_the_file(text: str, size: int) -> None:
    try:
        found = spans("bytes=" + text, size)
    except RangeError:
        return

    for span in found or ():
        assert span.start >= 0
        assert span.size_bytes > 0
        assert span.start + span.size_bytes <= size


def test_a_content_range_counts_from_zero_and_includes_the_last() -> None:
    assert Span(2, 3).header(10) == "bytes 2-4/10"


@pytest.mark.parametrize(
    ("headers", "fresh"),
    [
        ({}, False),
        ({"If-Modified-Since": DATE}, True),
        ({"If-Modified-Since": LATER}, True),
        ({"If-Modified-Since": EARLIER}, False),
        ({"If-Modified-Since": "yesterday"}, False),
        ({"If-None-Match": "TAG"}, True),
        ({"If-None-Match": '"x", W/TAG'}, True),
        ({"If-None-Match": "*"}, True),
        ({"If-None-Match": '"x"', "If-Modified-Since": DATE}, False),
        ({"If-Match": "TAG"}, False),
        ({"If-Match": '"x", TAG'}, False),
        ({"If-Match": "*"}, False),
        ({"If-Unmodified-Since": DATE}, False),
        ({"If-Match": "TAG", "If-Unmodified-Since": EARLIER}, False),
    ],
)
def test_conditions_decide_whether_a_copy_is_fresh(
    version: Version, headers: dict[str, str], fresh: bool
) -> None:
    sent = {key: value.replace("TAG", version.tag) for key, value in headers.items()}

    assert version.is_fresh(sent) is fresh


@pytest.mark.parametrize(
    "headers",
    [{"If-Match": '"x"'}, {"If-Match": "W/TAG"}, {"If-Unmodified-Since": EARLIER}],
)
def test_a_failed_precondition_is_told(
    version: Version, headers: dict[str, str]
) -> None:
    sent = {key: value.replace("TAG", version.tag) for key, value in headers.items()}

    with pytest.raises(PreconditionError):
        version.is_fresh(sent)


@pytest.mark.parametrize(
    ("value", "allowed"),
    [(None, True), ("TAG", True), (DATE, True), ('"x"', False), ("W/TAG", False), (EARLIER, False), (LATER, False), ("junk", False)],
)  # fmt: skip
def test_if_range_needs_the_very_version(
    version: Version, value: str | None, allowed: bool
) -> None:
    headers = {} if value is None else {"If-Range": value.replace("TAG", version.tag)}

    assert version.allows_range(headers) is allowed


@given(st.integers(0, 4_000_000_000))
def test_dates_are_those_of_http(second: int) -> None:
    assert http_date(second) == formatdate(second, usegmt=True)


def test_boundaries_never_repeat() -> None:
    assert len({boundary() for _ in range(100)}) == 100


def test_a_new_file_of_equal_size_and_time_is_another_version(tmp_path: Path) -> None:
    tags = set()
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"x")
        os.utime(tmp_path / name, (0, 0))
        content = open_content(f"{tmp_path}/{name}", name)
        tags.add(Version(content).tag)
        content.close()

    assert len(tags) == 2
