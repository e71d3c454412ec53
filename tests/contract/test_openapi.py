"""The document that the agent serves is the one that was read and agreed to."""

import json

from agent.app import tables
from tests.contract.__main__ import OPENAPI, current


def test_the_document_is_the_recorded_one() -> None:
    assert json.loads(OPENAPI.read_text()) == json.loads(current())


def test_every_route_has_a_summary() -> None:
    for table in tables():
        for route in table:
            assert route.summary.endswith("."), route.path
            assert "\n" not in route.summary, route.path
