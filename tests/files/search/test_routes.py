"""Find, search and replace as clients see them."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import ClientSession, web
from yarl import URL

from agent.files import routes as files_routes
from agent.files.search import routes as search_routes
from agent.registry import KEEPER, WORK_DIR
from agent.settings import Settings
from tests.files.search.conftest import House
from tests.support.serving import AUTH, TOKEN, serving


def write(path: bytes, text: str) -> None:
    file = Path(os.fsdecode(path))
    file.parent.mkdir()
    file.write_text(text)


@pytest.fixture
async def client(house: House) -> AsyncIterator[ClientSession]:
    def prepare(app: web.Application) -> None:
        app[WORK_DIR] = str(house.work_dir)
        app[KEEPER] = house.keeper

    settings = Settings(token=TOKEN, state_dir=str(house.work_dir.parent / "state"))
    tables = [files_routes.routes, search_routes.routes]
    contexts = [files_routes.context, search_routes.context]
    async with (
        serving(tables, contexts, settings, prepare=prepare) as served,
        ClientSession(served.url, headers=AUTH) as client,
    ):
        yield client


async def test_find_tells_file_line_and_content(
    client: ClientSession, house: House
) -> None:
    (house.work_dir / "a.txt").write_bytes(b"one\r\ntwo one\n")

    async with client.get("/files/find", params={"path": ".", "pattern": "one"}) as got:
        found = await got.json()

    assert got.status == 200
    assert got.headers["Content-Type"] == "application/json; charset=utf-8"
    assert got.headers["X-Toolbox-Results"] == "2"
    assert "X-Toolbox-Cut" not in got.headers
    assert found == [
        {"file": "a.txt", "line": 1, "content": "one"},
        {"file": "a.txt", "line": 2, "content": "two one"},
    ]


async def test_search_tells_paths(client: ClientSession, house: House) -> None:
    (house.work_dir / "d").mkdir()
    (house.work_dir / "d/x.py").touch()

    params = {"path": str(house.work_dir), "pattern": "*.py"}
    async with client.get("/files/search", params=params) as got:
        found = await got.json()

    assert found == {"files": [f"{house.work_dir}/d/x.py"]}


async def test_nothing_found_is_an_empty_list(client: ClientSession) -> None:
    params = {"path": ".", "pattern": "nothing"}
    async with client.get("/files/find", params=params) as got:
        assert await got.json() == []
    async with client.get("/files/search", params=params) as got:
        assert await got.json() == {"files": []}


@pytest.mark.parametrize("route", ["/files/find", "/files/search"])
@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ({"path": "."}, 400, "BAD_REQUEST"),
        ({"path": ".", "pattern": ""}, 400, "BAD_REQUEST"),
        ({"pattern": "x"}, 400, "BAD_REQUEST"),
        ({"path": "missing", "pattern": "x"}, 404, "FILE_NOT_FOUND"),
        ({"path": "file/x", "pattern": "x"}, 400, "INVALID_FILE_PATH"),
        ({"path": "a\0b", "pattern": "x"}, 400, "INVALID_FILE_PATH"),
        ({"path": ".", "pattern": "(", "regex": "true"}, 400, "BAD_REQUEST"),
        ({"path": ".", "pattern": "x", "maxResults": "0"}, 400, "BAD_REQUEST"),
        ({"path": ".", "pattern": "x", "maxResults": "y"}, 400, "BAD_REQUEST"),
        ({"path": ".", "pattern": "x", "cursor": "?"}, 400, "BAD_REQUEST"),
    ],
)
async def test_what_cannot_be_searched_is_told(
    client: ClientSession,
    house: House,
    route: str,
    query: dict[str, str],
    status: int,
    code: str,
) -> None:
    (house.work_dir / "file").write_text("x\n")

    async with client.get(route, params=query) as got:
        told = await got.json()

    assert (got.status, told["code"]) == (status, code)


async def test_a_cut_answer_says_so_and_how_to_go_on(
    client: ClientSession, house: House
) -> None:
    (house.work_dir / "a").write_text("x\n" * 5)
    seen: list[int] = []
    query = {"path": ".", "pattern": "x", "maxResults": "2"}
    cuts = []

    for _ in range(3):
        async with client.get("/files/find", params=query) as got:
            seen += [each["line"] for each in await got.json()]
            cuts.append(got.headers.get("X-Toolbox-Cut"))
            query["cursor"] = got.headers.get("X-Toolbox-Cursor", "")

    assert seen == [1, 2, 3, 4, 5]
    assert cuts == ["results", "results", None]
    assert query["cursor"] == ""


async def test_context_has_bounds(client: ClientSession) -> None:
    params = {"path": ".", "pattern": "x", "context": "101"}
    async with client.get("/files/find", params=params) as got:
        assert got.status == 400


async def test_replace_reports_each_file_in_order(
    client: ClientSession, house: House
) -> None:
    (house.work_dir / "a").write_bytes(b"old \xff old\r\n")
    (house.work_dir / "b").write_bytes(b"none")
    body = {"files": ["a", "missing", "b", "."], "pattern": "old", "newValue": "new"}

    async with client.post("/files/replace", json=body) as got:
        told = await got.json()

    assert got.status == 200
    assert [(each["file"], each["success"]) for each in told] == [
        ("a", True),
        ("missing", False),
        ("b", True),
        (".", False),
    ]
    assert told[1]["error"] == "open missing: no such file or directory"
    assert "error" not in told[0]
    assert (house.work_dir / "a").read_bytes() == b"new \xff new\r\n"


@pytest.mark.parametrize(
    "body",
    [
        {"files": ["a"], "pattern": "", "newValue": "x"},
        {"files": ["a"], "pattern": "x"},
        {"files": None, "pattern": "x", "newValue": "x"},
        {"pattern": "x", "newValue": "x"},
        {"files": [1], "pattern": "x", "newValue": "x"},
    ],
)
async def test_a_bad_replace_body_is_refused(
    client: ClientSession, body: object
) -> None:
    async with client.post("/files/replace", json=body) as got:
        assert (got.status, (await got.json())["code"]) == (400, "INVALID_REQUEST_BODY")


async def test_replace_in_no_files_is_fine(client: ClientSession) -> None:
    body = {"files": [], "pattern": "x", "newValue": ""}
    async with client.post("/files/replace", json=body) as got:
        assert (got.status, await got.json()) == (200, [])


async def test_a_root_whose_name_is_no_utf8_is_found(
    client: ClientSession, house: House
) -> None:
    write(os.fsencode(house.work_dir) + b"/\xff/f", "here\n")

    url = URL("/files/find?path=%FF&pattern=here", encoded=True)
    async with client.get(url) as got:
        assert await got.json() == [{"file": "\ufffd/f", "line": 1, "content": "here"}]
