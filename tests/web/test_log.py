"""The agent's own log: one line each, and no secret in any of them."""

import base64
import contextlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from agent.settings import Settings
from agent.web.log import JsonFormatter, Redactor, set_up_log

SECRET = "s3cr/t+key=="


def line(record: logging.LogRecord) -> str:
    return JsonFormatter(Redactor(SECRET, "")).format(record)


def record(message: str, *args: object) -> logging.LogRecord:
    return logging.LogRecord("agent.x", logging.INFO, "f.py", 1, message, args, None)


def test_a_record_is_one_line_of_json() -> None:
    entry = record("two\nlines %s", "here")
    entry.facts = {"status": 200}

    text = line(entry)

    assert "\n" not in text
    parsed = json.loads(text)
    assert parsed["message"] == "two\nlines here"
    assert (parsed["level"], parsed["status"]) == ("info", 200)


@pytest.mark.parametrize(
    "spelling",
    [SECRET, quote(SECRET, safe=""), base64.b64encode(SECRET.encode()).decode()],
)
def test_a_secret_is_hidden_in_every_spelling(spelling: str) -> None:
    text = line(record("x=%s!", spelling))

    assert spelling not in text
    assert "[hidden]" in text


@pytest.mark.parametrize(
    ("message", "secret"),
    [
        ("clone https://bob:hunter2@host/x failed", "hunter2"),
        ("Authorization: Bearer abc.def-123", "abc.def-123"),
        ("authorization: basic Ym9iOmh1bnRlcjI=", "Ym9iOmh1bnRlcjI="),
    ],
)
def test_credentials_of_others_are_hidden_too(message: str, secret: str) -> None:
    assert secret not in line(record(message))


def test_a_secret_in_a_traceback_is_hidden() -> None:
    entry = record("failed")
    try:
        int(SECRET)
    except ValueError as error:
        entry.exc_info = (type(error), error, error.__traceback__)

    text = line(entry)

    assert "ValueError" in text
    assert SECRET not in text


@pytest.fixture
def kept_logging() -> Iterator[None]:
    """Put the process's logging back as it was."""
    root = logging.getLogger()
    before = (root.handlers[:], root.level, logging.raiseExceptions)
    yield
    for handler in root.handlers:
        with contextlib.suppress(OSError):
            handler.close()
    root.handlers[:], root.level, logging.raiseExceptions = before


@pytest.mark.usefixtures("kept_logging")
def test_the_log_file_is_written_and_rotated(tmp_path: Path) -> None:
    path = tmp_path / "agent.log"
    settings = Settings(log_file=str(path), log_file_max_size_mib=1)
    set_up_log(settings)

    for _ in range(30):
        logging.getLogger("agent.x").info("x" * 100_000)

    sizes = [each.stat().st_size for each in tmp_path.iterdir()]
    assert len(sizes) == 3
    assert max(sizes) <= 1024 * 1024


@pytest.mark.usefixtures("kept_logging")
def test_a_log_that_cannot_be_written_stops_nobody() -> None:
    set_up_log(Settings(log_file="/dev/full"))

    logging.getLogger("agent.x").info("lost")
