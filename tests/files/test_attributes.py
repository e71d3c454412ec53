"""Modes, times and owners in the wire's spelling."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.files import attributes
from agent.files.attributes import describe, mode_strings, time_strings
from agent.wire import UNSET, encode


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    yield monkeypatch
    monkeypatch.undo()
    _apply()


def _apply() -> None:
    time.tzset()
    attributes.time_strings.cache_clear()
    attributes._second_strings.cache_clear()


@pytest.mark.parametrize(
    ("mode", "letters", "digits"),
    [
        (0o100644, "-rw-r--r--", "0644"),
        (0o040755, "drwxr-xr-x", "0755"),
        (0o041777, "dtrwxrwxrwx", "0777"),
        (0o104755, "urwxr-xr-x", "0755"),
        (0o042755, "dgrwxr-xr-x", "0755"),
        (0o020666, "Dcrw-rw-rw-", "0666"),
        (0o060660, "Drw-rw----", "0660"),
        (0o010644, "prw-r--r--", "0644"),
        (0o140755, "Srwxr-xr-x", "0755"),
        (0o120777, "Lrwxrwxrwx", "0777"),
        (0o107000, "ugt---------", "0000"),
        (0o100000, "----------", "0000"),
    ],
)
def test_modes_have_the_letters_of_the_contract(
    mode: int, letters: str, digits: str
) -> None:
    assert mode_strings(mode) == (letters, digits)


@pytest.mark.parametrize(
    ("zone_name", "time_ns", "mod_time", "modified_at"),
    [
        ("UTC", 1782229_418_500_000_000, "2026-06-23 15:43:38.5 +0000 UTC", "2026-06-23T15:43:38.5Z"),
        ("UTC", 1782229_418_000_000_000, "2026-06-23 15:43:38 +0000 UTC", "2026-06-23T15:43:38Z"),
        ("UTC", 1782229_418_123_456_789, "2026-06-23 15:43:38.123456789 +0000 UTC", "2026-06-23T15:43:38.123456789Z"),
        ("Europe/Berlin", 1782229_418_000_000_001, "2026-06-23 17:43:38.000000001 +0200 CEST", "2026-06-23T17:43:38.000000001+02:00"),
        ("Asia/Kolkata", 1782229_418_010_000_000, "2026-06-23 21:13:38.01 +0530 IST", "2026-06-23T21:13:38.01+05:30"),
        ("America/St_Johns", 0, "1969-12-31 20:30:00 -0330 NST", "1969-12-31T20:30:00-03:30"),
        ("UTC", -1, "1969-12-31 23:59:59.999999999 +0000 UTC", "1969-12-31T23:59:59.999999999Z"),
        ("UTC", 4102444800_000_000_000, "2100-01-01 00:00:00 +0000 UTC", "2100-01-01T00:00:00Z"),
    ],
)  # fmt: skip
def test_times_are_local_with_fraction_trimmed(
    zone: pytest.MonkeyPatch,
    zone_name: str,
    time_ns: int,
    mod_time: str,
    modified_at: str,
) -> None:
    zone.setenv("TZ", zone_name)
    _apply()

    assert time_strings(time_ns) == (mod_time, modified_at)


@pytest.mark.parametrize("time_ns", [-(2**62) * 1000, 2**62 * 1000])
def test_a_time_beyond_the_calendar_is_the_nearest_that_can_be_said(
    time_ns: int,
) -> None:
    year = time_strings(time_ns)[1][:4]

    assert year in {"0001", "9999"}


def test_owner_and_group_are_numbers_as_text() -> None:
    found = Path("/").stat()

    entry = describe("/", UNSET, found, is_dir=True)

    assert (entry.owner, entry.group) == (str(found.st_uid), str(found.st_gid))
    assert b'"path"' not in encode(entry)


def test_bytes_that_are_not_utf8_are_replaced() -> None:
    entry = describe("a\udcff", "d/a\udcff", Path("/").stat(), is_dir=True)

    assert (entry.name, entry.path) == ("a\ufffd", "d/a\ufffd")
