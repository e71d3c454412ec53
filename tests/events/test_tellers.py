"""What each part of the agent tells the timeline, and what it never tells."""

import asyncio
import json
import os
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

from aiohttp import ClientSession

from tests.events.conftest import Client, Said, Stream, asking
from tests.lsp.conftest import install
from tests.support.agent import Agent, StartAgent

CANARY = "canary-7f3a"


async def told(client: Client, types: str) -> list[Said]:
    """Return the events of some types without what every event has."""
    events = (await client.page(types=types))["events"]
    common = {"id", "time", "unixMs"}
    return [
        {name: value for name, value in each.items() if name not in common}
        for each in events
    ]


def repository(work_dir: Path, name: str) -> Path:
    """Make a bare repository to clone from and push to."""
    place = work_dir / name
    subprocess.run(["git", "init", "-q", "--bare", str(place)], check=True)
    return place


async def test_git_operations_are_told_with_verb_place_and_outcome(
    client: Client,
) -> None:
    work_dir = client.agent.work_dir
    bare = await asyncio.to_thread(repository, work_dir, "bare.git")
    await client.post("/git/clone", {"url": f"file://{bare}", "path": "r"})
    (work_dir / "r" / "f").write_text("x")
    author = {"author": "x", "email": "x@y"}
    await client.post("/git/add", {"path": "r", "files": ["f"]})
    await client.post("/git/commit", {"path": "r", "message": CANARY, **author})
    await client.post("/git/push", {"path": "r"})
    await asyncio.to_thread(subprocess.run, ["rm", "-r", str(bare)], check=True)
    await client.post("/git/push", {"path": "r"})

    events = await told(client, "git.*")

    path = str(work_dir / "r")
    assert {each["path"] for each in events} == {path}
    assert [(each["type"], each["verb"], each.get("ok")) for each in events] == [
        pair
        for verb, ok in [
            ("clone", True),
            ("add", True),
            ("commit", True),
            ("push", True),
            ("push", False),
        ]
        for pair in (("git.started", verb, None), ("git.ended", verb, ok))
    ]
    assert events[-1]["error"] == "GIT_REPO_NOT_FOUND"
    assert all(each["durationMs"] > 0 for each in events if "durationMs" in each)


async def test_edits_and_checkpoints_are_told(client: Client) -> None:
    work_dir = client.agent.work_dir
    (work_dir / "d").mkdir()
    (work_dir / "d" / "f").write_text("old")
    kept = await client.post("/git/checkpoint?path=d", {"message": CANARY})
    edit = {"type": "write", "path": "d/f", "content": CANARY}
    made = await client.post("/files/edit", {"edits": [edit]})
    await client.post("/files/edit", {"edits": [edit], "dryRun": True})
    await client.post(f"/files/edit/{made['id']}/undo", {})
    await client.post(f"/git/checkpoint/{kept['id']}/restore?path=d", {})
    url = f"{client.agent.url}/git/checkpoint/{kept['id']}?path=d"
    async with client.session.delete(url) as answer:
        assert answer.status == 204

    place = {"checkpoint": kept["id"], "path": "d"}
    files = {"edit": made["id"], "files": ["d/f"], "filesCount": 1}
    assert await told(client, "edit.*,checkpoint.*,git.*") == [
        {"type": "checkpoint.created", **place},
        {"type": "edit.applied", **files},
        {"type": "edit.undone", **files},
        {"type": "checkpoint.restored", **place, "changesCount": 0},
        {"type": "checkpoint.deleted", **place},
    ]


async def test_a_changed_environment_is_told_by_names(client: Client) -> None:
    await client.post("/env", {"set": {"A": CANARY, "B": CANARY}, "unset": ["C"]})

    assert await told(client, "environment.*") == [
        {"type": "environment.changed", "set": ["A", "B"], "unset": ["C"]}
    ]


async def test_a_watch_is_told_while_it_lasts(client: Client) -> None:
    async with client.follow(types="watch.*") as stream:
        await stream.next()
        url = f"{client.agent.url}/files/watch?path=.&recursive=true"
        async with client.session.get(url) as answer:
            await answer.content.readline()
            opened = await stream.next()
        closed = await stream.next()

    assert opened is not None
    assert closed is not None
    assert (opened["type"], opened["path"]) == ("watch.opened", ".")
    assert (closed["type"], closed["path"]) == ("watch.closed", ".")


async def test_ports_are_told_while_somebody_watches_them(client: Client) -> None:
    url = f"{client.agent.url}/port/watch"
    async with client.follow(types="port.*") as stream, client.session.get(url) as seen:
        await stream.next()
        await seen.content.readline()
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            opened = await stream.until(lambda said: said["port"] == port)
        closed = await stream.until(lambda said: said["port"] == port)

    assert (opened[-1]["type"], closed[-1]["type"]) == ("port.opened", "port.closed")


async def test_terminals_and_contexts_are_told_by_their_ids(client: Client) -> None:
    await client.post("/process/pty", {"id": "p1", "envs": {"X": CANARY}})
    made = await client.post("/process/interpreter/context", {})
    for path in ("/process/pty/p1", f"/process/interpreter/context/{made['id']}"):
        async with client.session.delete(f"{client.agent.url}{path}") as answer:
            assert answer.status < 300

    events = await told(client, "pty.*,context.*")

    names = [(each["type"], each.get("pty") or each["context"]) for each in events]
    assert sorted(names) == [
        ("context.ended", made["id"]),
        ("context.started", made["id"]),
        ("pty.ended", "p1"),
        ("pty.started", "p1"),
    ]


async def test_the_states_of_a_language_server_are_told(
    start_agent: StartAgent, tmp_path: Path
) -> None:
    await asyncio.to_thread(install, tmp_path / "bin")
    path = {"PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.defpath}"}
    agent = await asyncio.to_thread(start_agent, env=path)
    (agent.work_dir / "proj").mkdir()
    project = {"languageId": "python", "pathToProject": "proj"}
    async with asking(agent) as client:
        await client.post("/lsp/start", project)
        async with client.follow(types="lsp.*") as stream:
            await stream.next()
            pid = (await told(client, "lsp.ready"))[0]["pid"]
            os.kill(pid, signal.SIGKILL)
            await stream.next()
        await client.post("/lsp/start", project)
        await client.post("/lsp/stop", project)
        events = await told(client, "lsp.*")

    assert [each["type"] for each in events] == [
        *("lsp.started", "lsp.ready", "lsp.crashed"),
        *("lsp.restarted", "lsp.ready", "lsp.stopped"),
    ]
    assert {(each["language"], each["project"]) for each in events} == {
        ("python", str(agent.work_dir / "proj"))
    }
    assert "9" in events[2]["reason"] or "KILL" in events[2]["reason"]


async def test_an_api_that_hangs_is_told_to_have_died_of_that(
    start_agent: StartAgent, tmp_path: Path
) -> None:
    environment = {
        "NOTIFY_SOCKET": str(tmp_path / "nobody"),
        "WATCHDOG_USEC": "600000",
    }
    agent = await asyncio.to_thread(start_agent, env=environment)
    async with ClientSession(headers=agent.auth) as session:
        client = Client(session, agent)
        await client.execute("true")
        os.kill(await asyncio.to_thread(agent.api_pid), signal.SIGSTOP)
        while not (ends := await after_hang(client)):
            """The next api answers once the keeper has noticed."""

    assert [(each["reason"], each["generation"]) for each in ends] == [
        ("does-not-answer", 1)
    ]


async def after_hang(client: Client) -> list[Said]:
    return await told(client, "api.ended")


async def test_the_entrypoint_is_told(start_agent: StartAgent) -> None:
    agent = await asyncio.to_thread(
        start_agent, entrypoint=["sh", "-c", f"echo {CANARY}; exit 5"]
    )
    async with ClientSession(headers=agent.auth) as session:
        client = Client(session, agent)
        async with client.follow(since=0, types="command.*") as stream:
            started, ended = await first_two(stream)

    assert (started["kind"], started["program"]) == ("entrypoint", "sh")
    assert (ended["kind"], ended["exitCode"]) == ("entrypoint", 5)
    assert CANARY not in json.dumps([started, ended])


async def first_two(stream: Stream) -> tuple[Said, Said]:
    said = [await stream.next() for _ in range(3)]
    _, one, two = [each for each in said if each is not None]
    return one, two


# -- secrets ----------------------------------------------------------------------


def requests_with_secrets(bare: Path) -> list[tuple[str, dict[str, Any]]]:
    """Return requests in whose every part that may be secret the canary is."""
    secret = {"SECRET": CANARY}
    given = {"username": "user", "password": CANARY}
    url = f"https://user:{CANARY}@127.0.0.1:1/x.git"
    code = {"language": "python", "code": f"print('{CANARY}')", "argv": [CANARY]}
    commands = [
        f"echo {CANARY} >/dev/null",
        f"TOKEN={CANARY} true",
        f"'{CANARY}'",
        f"{CANARY * 3} arguments",
        f"$({CANARY})",
    ]
    edit = {"type": "write", "path": "f", "content": CANARY}
    return [
        *(("/process/execute", {"command": line, "envs": secret}) for line in commands),
        ("/process/execute", {"command": "true", "cwd": f"/{CANARY}"}),
        ("/process/code-run", {**code, "envs": secret}),
        ("/process/session", {"sessionId": "s"}),
        ("/process/session/s/exec", {"command": f"export X={CANARY}; echo $X"}),
        ("/process/pty", {"id": "p", "envs": secret}),
        ("/env", {"set": secret}),
        ("/env", {"unsetValuePrefix": CANARY}),
        ("/init", {"token": CANARY}),
        ("/git/clone", {"url": url, "path": "a"}),
        ("/git/clone", {"url": f"file://{bare}", "path": "r"}),
        ("/git/remotes", {"path": "r", "name": "o2", "url": url}),
        ("/git/fetch", {"path": "r", "remote": "o2", **given}),
        ("/git/push", {"path": "r", **given}),
        ("/git/credentials", {"host": "127.0.0.1", **given}),
        ("/files/edit", {"edits": [edit]}),
    ]


async def test_no_secret_is_ever_in_the_journal(client: Client) -> None:
    bare = await asyncio.to_thread(repository, client.agent.work_dir, "bare.git")
    for path, body in requests_with_secrets(bare):
        answer = await asyncio.to_thread(client.agent.request, "POST", path, body)
        assert answer.status not in {404, 405} or path == "/git/push", (path, answer)
    events = (await client.page())["events"]

    assert len(events) > 25
    assert not tellers(events, CANARY)
    assert not tellers(events, client.agent.token)
    stored = await asyncio.to_thread(journal, client.agent)
    assert stored.count(b"\n") == len(events)
    assert CANARY.encode() not in stored
    assert client.agent.token.encode() not in stored


def tellers(events: list[Any], secret: str) -> list[Any]:
    return [each for each in events if secret in json.dumps(each)]


def journal(agent: Agent) -> bytes:
    files = (agent.state_dir / "events").iterdir()
    return b"".join(path.read_bytes() for path in files)
