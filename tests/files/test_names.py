"""File names in header lines."""

from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given, strategies as st

from agent.files.names import content_type, disposition, encoded, quoted


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("a.txt", "a.txt"),
        ('a"b', 'a\\"b'),
        ("a\\b", "a\\\\b"),
        ("a\r\nb\0c", "abc"),
        ("a\tb\x7f", "a_b_"),
        ("café", "café"),
        ("漢🙂", "__"),
    ],
)
def test_quoted_names_are_latin1_without_controls(name: str, value: str) -> None:
    assert quoted(name) == value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("a b/c", "a%20b%2Fc"),
        ("!#$&+-.^_`|~", "!#$&+-.^_`|~"),
        ("é", "%C3%A9"),
        ("%'*()", "%25%27%2A%28%29"),
    ],
)
def test_encoded_names_leave_only_the_listed_characters(name: str, value: str) -> None:
    assert encoded(name) == value


def test_parameters_come_as_name_filename_encoded_filename() -> None:
    value = disposition('form-data; name="file"', "é")

    assert value == 'form-data; name="file"; filename="é"; filename*=utf-8\'\'%C3%A9'


@given(st.text(st.sampled_from("aZ09!#$&+-.^_`|~/")))
def test_simple_names_are_written_by_the_rule_of_all(name: str) -> None:
    value = disposition("attachment", name)

    expected = f"attachment; filename=\"{quoted(name)}\"; filename*=utf-8''"
    assert value == expected + encoded(name)


def test_a_name_that_is_not_utf8_is_told_with_replacements() -> None:
    value = disposition("attachment", "a\udcff")

    assert value == "attachment; filename=\"a_\"; filename*=utf-8''a%EF%BF%BD"


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_no_name_breaks_out_of_its_header(name: str) -> None:
    value = disposition("attachment", name)

    head, _, rest = value.partition("; filename=")
    text, _, extended = rest.rpartition("; filename*=utf-8''")
    assert head == "attachment"
    assert all(0x20 <= ord(each) <= 0xFF and ord(each) != 0x7F for each in value)
    assert text[0] == text[-1] == '"'
    assert '"' not in text[1:-1].replace("\\\\", "").replace('\\"', "")
    assert unquote_to_bytes(extended).decode() == name


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("/a/b.txt", "text/plain"),
        ("b.json", "application/json"),
        ("b.PNG", "image/png"),
        ("b.tar.gz", "application/octet-stream"),
        ("noextension", "application/octet-stream"),
        ("b.unknownext", "application/octet-stream"),
        ("b.svgz", "application/octet-stream"),
        (".txt", "application/octet-stream"),
        ("a.b/c", "application/octet-stream"),
        ("data:,a.txt", "text/plain"),
    ],
)
def test_the_media_type_comes_from_the_extension(name: str, media_type: str) -> None:
    assert content_type(name) == media_type
