"""Mode, owner and group are set together or, when one makes no sense, not at all."""

import os
import stat

import pytest

from tests.files.conftest import Agent, failure

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to others")


def bits(agent: Agent, name: str) -> str:
    return f"{stat.S_IMODE((agent.work_dir / name).stat().st_mode):o}"


async def change(agent: Agent, path: str, **query: str) -> None:
    async with agent.client.post(
        agent.at("/files/permissions", path, **query)
    ) as response:
        assert (response.status, await response.read()) == (200, b"")


@pytest.mark.parametrize("mode", ["600", "0755", "1777", "4711", "2750", "0", "7777"])
async def test_all_twelve_bits_are_set(agent: Agent, mode: str) -> None:
    (agent.work_dir / "f").touch()

    await change(agent, "f", mode=mode)

    assert int(bits(agent, "f"), 8) == int(mode, 8)


async def test_what_is_not_given_stays(agent: Agent) -> None:
    (agent.work_dir / "f").touch(0o640)
    before = (agent.work_dir / "f").stat()

    await change(agent, "f")
    await change(agent, "f", mode="", owner="", group="")

    assert (agent.work_dir / "f").stat() == before


@as_root
async def test_owner_and_group_go_by_name_and_number(agent: Agent) -> None:
    (agent.work_dir / "f").touch(0o640)

    await change(agent, "f", owner="daemon", group="mail")
    named = (agent.work_dir / "f").stat()
    await change(agent, "f", owner="12345", group="54321")
    numbered = (agent.work_dir / "f").stat()
    await change(agent, "f", group="7")

    assert (named.st_uid, named.st_gid) == (1, 8)
    assert (numbered.st_uid, numbered.st_gid) == (12345, 54321)
    last = (agent.work_dir / "f").stat()
    assert (last.st_uid, last.st_gid) == (12345, 7)
    assert bits(agent, "f") == "640"


@as_root
async def test_a_new_owner_does_not_take_bits_of_the_mode_away(agent: Agent) -> None:
    (agent.work_dir / "f").touch()

    await change(agent, "f", mode="6755", owner="daemon", group="daemon")

    assert bits(agent, "f") == "6755"


async def test_links_are_followed_and_directories_are_not_walked(agent: Agent) -> None:
    (agent.work_dir / "d").mkdir(0o755)
    (agent.work_dir / "d" / "f").touch(0o644)
    (agent.work_dir / "link").symlink_to("d")

    await change(agent, "link", mode="700")

    assert (bits(agent, "d"), bits(agent, "d/f")) == ("700", "644")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"mode": "rwx"}, "octal"),
        ({"mode": "0o755"}, "octal"),
        ({"mode": "888"}, "octal"),
        ({"mode": "10000"}, "octal"),
        ({"mode": "600", "owner": "nobody-of-this-name"}, "user not found"),
        ({"mode": "600", "group": "nobody-of-this-name"}, "group not found"),
        ({"mode": "600", "owner": "-1"}, "user not found"),
        ({"mode": "600", "owner": "4294967295"}, "user not found"),
        ({"mode": "600", "owner": "%FF"}, "user not found"),
        ({"mode": "600", "owner": "a%00b"}, "user not found"),
    ],
)
async def test_one_that_makes_no_sense_changes_nothing(
    agent: Agent, query: dict[str, str], message: str
) -> None:
    (agent.work_dir / "f").touch(0o644)
    before = (agent.work_dir / "f").stat()

    async with agent.client.post(
        agent.at("/files/permissions", "f", **query)
    ) as response:
        status, code, told = await failure(response)

    assert (status, code) == (400, "BAD_REQUEST")
    assert message in told
    assert (agent.work_dir / "f").stat() == before


@pytest.mark.parametrize("path", ["none", "dangling"])
async def test_what_is_missing_is_not_found(agent: Agent, path: str) -> None:
    (agent.work_dir / "dangling").symlink_to("nowhere")

    async with agent.client.post(
        agent.at("/files/permissions", path, mode="600")
    ) as response:
        assert await failure(response) == (
            404,
            "FILE_NOT_FOUND",
            f"file not found: {path}",
        )


async def test_a_refusal_of_the_system_is_forbidden(agent: Agent) -> None:
    url = agent.at("/files/permissions", "/proc/self/status", mode="600")
    async with agent.client.post(url) as response:
        assert await failure(response) == (
            403,
            "FILE_ACCESS_DENIED",
            "permission denied: /proc/self/status",
        )
