"""`python -m tests.contract` records the OpenAPI document anew; read the diff."""

import json
from pathlib import Path

from agent.app import tables
from agent.web import docs
from agent.web.openapi import document

OPENAPI = Path(__file__).parent / "openapi.json"


def current() -> str:
    """Return the document of now."""
    routes = [route for table in (*tables(), docs.routes) for route in table]
    return json.dumps(document(routes, "0"), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    OPENAPI.write_text(current())
