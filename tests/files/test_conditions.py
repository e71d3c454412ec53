"""Uploads that are held to a version replace that one and no other."""

import asyncio
import io

import pytest

from tests.files.conftest import Agent, failure, settled, strays

OTHER = '"1-2-3"'
LONG_AGO = "Mon, 01 Jan 2001 00:00:00 GMT"
FAR_AHEAD = "Mon, 01 Jan 2125 00:00:00 GMT"


async def tag_of(agent: Agent, path: str) -> str:
    async with agent.client.get(agent.at("/files/download", path)) as response:
        return response.headers["ETag"]


async def store(
    agent: Agent, path: str, content: bytes, route: str = "-v2", **headers: str
) -> int:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    url = agent.at(f"/files/upload{route}", path)
    async with agent.client.post(
        url, data=io.BytesIO(content), headers=given
    ) as response:
        if response.status != 200:
            status, code, _ = await failure(response)
            assert (status, code) == (412, "PRECONDITION_FAILED")
        return response.status


@pytest.mark.parametrize("route", ["", "-v2"])
@pytest.mark.parametrize("path", ["new/f", "old", "link", "twin"])
async def test_an_upload_tells_the_tag_that_a_download_has(
    agent: Agent, route: str, path: str
) -> None:
    (agent.work_dir / "old").write_text("old")
    (agent.work_dir / "link").symlink_to("old")
    # Of several names, so it is filled in place.
    (agent.work_dir / "first").write_text("first")
    (agent.work_dir / "twin").hardlink_to(agent.work_dir / "first")
    url = agent.at(f"/files/upload{route}", path)

    tags = []
    for content in (b"content", b"another"):
        async with agent.client.post(url, data=content) as response:
            tags.append(response.headers["ETag"])
        assert tags[-1] == await tag_of(agent, path)

    assert await store(agent, path, b"newer", route, If_Match=tags[1]) == 200
    assert await store(agent, path, b"stale", route, If_Match=tags[1]) == 412
    assert (agent.work_dir / path).read_text() == "newer"


async def test_an_upload_to_a_device_has_no_tag(agent: Agent) -> None:
    url = agent.at("/files/upload-v2", "/dev/null")

    async with agent.client.post(url, data=b"content") as response:
        assert response.status == 200
        assert "ETag" not in response.headers


@pytest.mark.parametrize("route", ["", "-v2"])
async def test_the_version_that_is_known_is_replaced_once(
    agent: Agent, route: str
) -> None:
    (agent.work_dir / "f").write_text("old")
    tag = await tag_of(agent, "f")

    assert await store(agent, "f", b"new", route, If_Match=tag) == 200
    assert await store(agent, "f", b"newer", route, If_Match=tag) == 412

    assert (agent.work_dir / "f").read_text() == "new"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"If_Match": OTHER}, 412),
        ({"If_Match": "*"}, 200),
        ({"If_Match": f"{OTHER}, TAG"}, 200),
        ({"If_Match": "W/TAG"}, 412),
        ({"If_None_Match": "*"}, 412),
        ({"If_None_Match": OTHER}, 200),
        ({"If_None_Match": "TAG"}, 412),
        ({"If_Unmodified_Since": LONG_AGO}, 412),
        ({"If_Unmodified_Since": FAR_AHEAD}, 200),
        ({"If_Match": "TAG", "If_Unmodified_Since": LONG_AGO}, 200),
        ({"If_Modified_Since": FAR_AHEAD}, 200),
    ],
)
async def test_conditions_on_a_file_that_is_there(
    agent: Agent, headers: dict[str, str], status: int
) -> None:
    (agent.work_dir / "f").write_text("old")
    tag = await tag_of(agent, "f")
    given = {name: value.replace("TAG", tag) for name, value in headers.items()}

    assert await store(agent, "f", b"new", **given) == status

    expected = "new" if status == 200 else "old"
    assert (agent.work_dir / "f").read_text() == expected


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"If_Match": "*"}, 412),
        ({"If_Match": OTHER}, 412),
        ({"If_None_Match": "*"}, 200),
        ({"If_Unmodified_Since": LONG_AGO}, 200),
    ],
)
async def test_conditions_on_a_file_that_is_not_there(
    agent: Agent, headers: dict[str, str], status: int
) -> None:
    assert await store(agent, "d/f", b"new", **headers) == status

    assert (agent.work_dir / "d" / "f").exists() is (status == 200)
    assert (agent.work_dir / "d").exists() is (status == 200)


async def test_links_are_followed_to_the_version(agent: Agent) -> None:
    (agent.work_dir / "f").write_text("old")
    (agent.work_dir / "link").symlink_to("f")
    tag = await tag_of(agent, "f")

    assert await store(agent, "link", b"new", If_Match=tag) == 200

    assert (agent.work_dir / "f").read_text() == "new"
    assert (agent.work_dir / "link").is_symlink()


async def test_a_version_that_passes_while_the_body_comes_is_seen(agent: Agent) -> None:
    (agent.work_dir / "f").write_text("old")
    tag = await tag_of(agent, "f")
    head = agent.head(
        "POST",
        agent.at("/files/upload-v2", "f"),
        If_Match=tag,
        Content_Length=3_000_000,
    )

    async with agent.connection() as (reader, writer):
        writer.write(head + b"x" * 2_000_000)
        await settled(lambda: strays(agent.work_dir))
        (agent.work_dir / "f").write_text("somebody else's")
        writer.write(b"x" * 1_000_000)
        answer = await reader.readuntil(b"\r\n")

    assert answer.startswith(b"HTTP/1.1 412")
    assert (agent.work_dir / "f").read_text() == "somebody else's"


@pytest.mark.parametrize("condition", ["If_Match", "If_None_Match"])
async def test_of_many_at_once_one_wins(agent: Agent, condition: str) -> None:
    value = "*"
    if condition == "If_Match":
        (agent.work_dir / "f").write_text("old")
        value = await tag_of(agent, "f")

    statuses = await asyncio.gather(
        *(
            store(agent, "f", bytes([number]) * 100_000, **{condition: value})
            for number in range(10)
        )
    )

    assert sorted(statuses) == [200, *[412] * 9]
    winner = statuses.index(200)
    assert (agent.work_dir / "f").read_bytes() == bytes([winner]) * 100_000
