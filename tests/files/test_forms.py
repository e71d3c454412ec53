"""Forms arrive in any pieces and mean the same."""

import re
from itertools import pairwise

import pytest
from hypothesis import given, settings, strategies as st

from agent.errors import InvalidRequestError
from agent.files.forms import (
    HEADER_MAX_BYTES,
    Form,
    PartBegin,
    Piece,
    field_name,
    form_boundary,
)


def part(name: str, content: bytes, extra: bytes = b"") -> bytes:
    head = f'--B\r\nContent-Disposition: form-data; name="{name}"'.encode()
    return head + extra + b"\r\n\r\n" + content + b"\r\n"


def read(*chunks: bytes) -> list[tuple[str, bytes]]:
    """Return the parts of a form that comes in these chunks."""
    form = Form(b"B")
    parts: list[tuple[str, bytes]] = []
    for chunk in chunks:
        for event in form.feed(chunk):
            if isinstance(event, PartBegin):
                parts.append((event.name, b""))
            elif isinstance(event, Piece):
                name, content = parts[-1]
                parts[-1] = (name, content + bytes(event.data))
    form.finish()
    return parts


def test_parts_come_with_name_and_content() -> None:
    body = part("a", b"1") + part("b", b"") + part("c", b"\r\n--\r\n") + b"--B--\r\n"

    assert read(body) == [("a", b"1"), ("b", b""), ("c", b"\r\n--\r\n")]


@settings(max_examples=200)
@given(
    st.lists(st.binary(max_size=40) | st.sampled_from([b"\r\n--", b"\r\n--B", b"\r", b"--B--", b"\r\n-", b"\r\n\r\n--B"]), max_size=4),
    st.lists(st.integers(0, 300), max_size=8),
)  # fmt: skip
def test_where_the_body_is_cut_into_chunks_does_not_matter(
    contents: list[bytes], cuts: list[int]
) -> None:
    # A line that begins with the boundary ends a part, by the standard.
    contents = [re.sub(rb"\r\n--B", b"\r\n--C", content) for content in contents]
    body = b"".join(part(f"p{number}", each) for number, each in enumerate(contents))
    body += b"--B--\r\n"
    edges = sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})

    parts = read(*(body[start:end] for start, end in pairwise(edges)))

    assert parts == [(f"p{number}", each) for number, each in enumerate(contents)]


def test_every_cut_in_two_means_the_same() -> None:
    body = part("a", b"\r\n--BB\r\n-") + part("b", b"x") + b"--B--"
    whole = read(body)

    for cut in range(len(body)):
        assert read(body[:cut], body[cut:]) == whole


def test_every_truncation_is_noticed() -> None:
    body = part("a", b"1") + part("b", b"2") + b"--B--"

    for end in range(len(body)):
        with pytest.raises(InvalidRequestError, match="malformed multipart form"):
            read(body[:end])


@pytest.mark.parametrize(
    "body",
    [b"junk", b"--C\r\n", b"--B\r\nno colon\r\n\r\n", b"--B\r\nA: " + b"x" * (HEADER_MAX_BYTES + 1)],
)  # fmt: skip
def test_junk_is_told(body: bytes) -> None:
    with pytest.raises(InvalidRequestError, match="malformed multipart form"):
        read(body)


def test_parts_before_junk_in_the_same_chunk_are_not_lost() -> None:
    form = Form(b"B")

    events = form.feed(part("a", b"1") + b"--B\r\nno colon\r\n\r\n")

    assert PartBegin("a") in events
    with pytest.raises(InvalidRequestError):
        form.feed(b"more")


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ('form-data; name="a"', "a"),
        ("form-data; name=a; filename=b", "a"),
        ('form-data; filename="b"; name="a"', "a"),
        ('form-data; name="a"; filename="x; name=\\"b\\""', "a"),
        ('form-data; filename="x\\"; name=\\"b"; name="a"', "a"),
        ('form-data; NAME="files[0].path"', "files[0].path"),
        ('form-data; name="a\\"b"', 'a"b'),
        ("form-data; name*=utf-8''x; name=\"a\"", "a"),
        ('form-data; filename="a"', ""),
        ("form-data", ""),
        ("", ""),
        ('form-data; name="' + "x" * 300 + '"', ""),
        ('form-data; name="\xc3\xa9"', "é"),
    ],
)
def test_the_field_is_the_name_parameter(value: str, name: str) -> None:
    assert field_name(value) == name


@pytest.mark.parametrize(
    ("content_type", "found"),
    [
        ("multipart/form-data; boundary=abc", b"abc"),
        ('Multipart/Form-Data; charset=utf-8; boundary="a b"', b"a b"),
        ("application/octet-stream", None),
        ("multipart/mixed; boundary=abc", None),
        ("", None),
    ],
)
def test_only_forms_have_a_boundary(content_type: str, found: bytes | None) -> None:
    assert form_boundary(content_type) == found


def test_a_form_without_a_boundary_is_malformed() -> None:
    with pytest.raises(InvalidRequestError, match="boundary"):
        form_boundary("multipart/form-data")
