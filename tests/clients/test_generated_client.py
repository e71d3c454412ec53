"""What the generated toolbox client can do with the agent, straight and by bare paths."""

import pytest

from agent.version import VERSION
from tests.clients.conftest import Told

pytestmark = [
    pytest.mark.clients,
    pytest.mark.timeout(280),
    pytest.mark.parametrize("told", ["python generated"], indirect=True),
]


def test_upload_answers_what_was_made(told: Told) -> None:
    files = told["files"]

    assert files["uploaded"] == {
        "name": "ü & up.txt",
        "path": "made/ü & up.txt",
        "type": "file",
    }
    assert files["stored"] == files["download"] == "content"


def test_listing_has_nothing_that_the_client_does_not_know(told: Told) -> None:
    (entry,) = told["files"]["listed"]

    assert set(entry) == {
        "name",
        "path",
        "size",
        "mode",
        "permissions",
        "modTime",
        "modifiedAt",
        "isDir",
        "owner",
        "group",
    }


def test_failure_keeps_its_status(told: Told) -> None:
    missing = told["files"]["missing"]

    assert "NotFoundException" in missing["kinds"]
    assert "file not found: made/none" in missing["message"]


def test_version_init_and_execute_are_answered(told: Told) -> None:
    rest = told["rest"]

    assert rest["version"] == {"version": VERSION}
    assert rest["init"] == {"message": "initialized"}
    assert rest["ran"] == {"exitCode": 0, "result": "bare\n"}
