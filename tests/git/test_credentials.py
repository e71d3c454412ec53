"""Credentials: who is shown them, for how long, and where they are found afterwards."""

import asyncio
import base64
import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import quote

import pytest

from agent.errors import InvalidRequestError
from agent.git.credentials import (
    PROGRAM,
    CredentialDesk,
    Credentials,
    CredentialStore,
    Grant,
    Site,
    asked_site,
    check_credentials,
    check_site,
    split_user_info,
)
from agent.git.failures import Redaction
from agent.keeper.client import Keeper
from tests.git.conftest import CREDENTIALS, PASSWORD, USER, Git
from tests.git.remote import Remote, commit, git as run, repository
from tests.support.agent import Agent, StartAgent
from tests.support.processes import tagged

pytestmark = pytest.mark.timeout(30)  # an agent of their own, and many requests

MADE = Credentials("somebody", "something")


# -- where they are found ------------------------------------------------------------


def forms(secret: str) -> list[bytes]:
    """Return every form in which a secret could be written down."""
    pair = base64.b64encode(f"{USER}:{secret}".encode())
    alone = base64.b64encode(secret.encode())
    return [secret.encode(), quote(secret, safe="").encode(), pair, alone]


class Watch:
    """Looks at arguments and environments of an agent's processes again and again."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.seen: set[bytes] = set()
        self.commands: set[bytes] = set()

    def look(self) -> None:
        """Look once."""
        for pid in tagged("AGENT_UNDER_TEST", self._agent.tag):
            for name in ("cmdline", "environ"):
                try:
                    found = Path(f"/proc/{pid}/{name}").read_bytes()
                except OSError:
                    continue
                self.seen.add(found)
                if name == "cmdline":
                    self.commands.add(found.partition(b"\0")[0].rpartition(b"/")[2])

    def before(self, _: BaseHTTPRequestHandler) -> bool:
        """Look while a server is asked."""
        self.look()
        return False

    def _run(self) -> None:
        while not self._stop.wait(0.002):
            self.look()

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def assert_nowhere(secret: str, watch: Watch, *places: Path) -> None:
    """See that no form of a secret was seen, or lies below any of the places."""
    for form in forms(secret):
        assert not [each for each in watch.seen if form in each], form
        for place in places:
            for top, _, names in os.walk(place):
                for name in names:
                    path = Path(top, name)
                    if path.is_file() and not path.is_symlink():
                        assert form not in path.read_bytes(), path


def test_value_of_the_configuration_is_in_no_command_line(
    start_agent: StartAgent, tmp_path: Path
) -> None:
    agent = start_agent("--log-level", "debug")
    git, repo = Git(agent), repository(tmp_path / "repo")
    secret = "Authorization: Bearer c4n4ry"

    with Watch(agent) as watch:
        for _ in range(10):
            git.do("config", key="http.extraHeader", value=secret)
            git.do(
                "config",
                key="http.extraHeader",
                value=secret,
                scope="local",
                path=repo,
            )

    assert b"git" in watch.commands
    assert not [each for each in watch.seen if secret.encode() in each]
    assert git.told("config", key="http.extraHeader") == {"value": secret}
    state = [each for each in agent.home.rglob("*") if each.is_file()]
    holding = [each.name for each in state if secret.encode() in each.read_bytes()]
    assert holding == [".gitconfig"]


def test_secrets_are_found_nowhere_after_success_and_failure(
    start_agent: StartAgent, guarded: Remote, tmp_path: Path
) -> None:
    guarded.create("project", {"a": "x"})
    agent = start_agent("--log-level", "debug")
    git, path = Git(agent), tmp_path / "clone"
    url = guarded.url("project")
    answers = []
    with Watch(agent) as watch:
        # At each request git, its helper for HTTP and what they were given are there.
        guarded.before = watch.before
        answers.append(git.post("clone", url=url, path=path, **CREDENTIALS))
        assert answers[-1].status == 200
        commit(path, "ours", {"b": "y"})
        answers.append(git.post("push", path=path, **CREDENTIALS))
        answers.append(git.post("pull", path=path, **CREDENTIALS))
        assert [each.status for each in answers[1:]] == [200, 200]
        answers += [
            git.post(
                "clone", url=guarded.url("no"), path=tmp_path / "x", **CREDENTIALS
            ),
            git.post("push", path=path, branch="nope", **CREDENTIALS),
        ]
        port = guarded.port
        with_user_info = url.replace("://", f"://{USER}:{quote(PASSWORD, safe='')}@")
        answers.append(git.post("clone", url=with_user_info, path=tmp_path / "y"))
        answers.append(git.post("remotes", path=path, name="s", url=with_user_info))
        body = {**CREDENTIALS, "host": f"127.0.0.1:{port}", "protocol": "http"}
        answers.append(git.post("credentials", **body))
        answers.append(git.post("pull", path=path))

    assert {b"git", b"git-remote-http"} <= watch.commands
    assert_nowhere(PASSWORD, watch, tmp_path)
    for answer in answers:
        for form in forms(PASSWORD):
            assert form not in answer.body
    for form in forms(PASSWORD):
        assert form not in agent.log().encode()


def test_secrets_are_found_nowhere_after_a_crash(
    start_agent: StartAgent, guarded: Remote, tmp_path: Path
) -> None:
    guarded.create("project", {"a": "x"})
    agent = start_agent()
    git, path = Git(agent), tmp_path / "clone"
    with held(guarded) as hold, Watch(agent) as watch, ThreadPoolExecutor(1) as pool:
        body = {"url": guarded.url("project"), "path": path, **CREDENTIALS}
        asked = pool.submit(git.post, "clone", **body)
        hold.wait()
        watch.look()
        os.kill(agent.api_pid(), signal.SIGKILL)
        with pytest.raises(ConnectionError):
            asked.result()
        hold.go_on()
        assert git.post("clone", **body).status == 200

    assert_nowhere(PASSWORD, watch, tmp_path)


class Hold:
    """Keeps a server's first answer with content back."""

    def __init__(self) -> None:
        self._came = threading.Event()
        self._go = threading.Event()

    def wait(self) -> None:
        """Wait until somebody asks for content."""
        assert self._came.wait(9)

    def go_on(self) -> None:
        """Let all answers go."""
        self._go.set()

    def before(self, handler: BaseHTTPRequestHandler) -> bool:
        """Wait, when it is content that is asked for."""
        if handler.command == "POST" and not handler.path.endswith("receive-pack"):
            self._came.set()
            self._go.wait(30)
        return False


@contextmanager
def held(remote: Remote) -> Iterator[Hold]:
    """Keep the answers of a server back; they go at the end."""
    hold = Hold()
    remote.before = hold.before
    try:
        yield hold
    finally:
        hold.go_on()


# -- what is kept --------------------------------------------------------------------


def test_kept_credentials_are_used_by_requests_that_bring_none(
    start_agent: StartAgent, guarded: Remote, tmp_path: Path
) -> None:
    guarded.create("project", {"a": "x"})
    agent = start_agent()
    git = Git(agent)
    body = {"url": guarded.url("project"), "path": tmp_path / "clone"}
    site = {"host": f"127.0.0.1:{guarded.port}", "protocol": "http"}

    before = git.fails("clone", **body)
    other = git.do("credentials", **CREDENTIALS, host="127.0.0.1:1", protocol="http")
    still = git.fails("clone", **body)
    answer = git.post("credentials", **CREDENTIALS, **site)
    git.do("clone", **body)

    assert before == still == (401, "GIT_AUTH_FAILED")
    assert (other, answer.status, answer.body) == (None, 200, b"")
    assert list(agent.home.iterdir()) == []
    # They outlast the api.
    os.kill(agent.api_pid(), signal.SIGKILL)
    assert agent.request("GET", "/version").status == 200
    git.do("pull", path=tmp_path / "clone")


def test_kept_credentials_end_with_their_time(
    start_agent: StartAgent, guarded: Remote, tmp_path: Path
) -> None:
    guarded.create("project", {"a": "x"})
    git = Git(start_agent("--git-credentials-lifetime-s", "0"))
    site = {"host": f"127.0.0.1:{guarded.port}", "protocol": "http"}

    git.do("credentials", **CREDENTIALS, **site)

    found = git.fails("clone", url=guarded.url("project"), path=tmp_path / "clone")
    assert found == (401, "GIT_AUTH_FAILED")


def test_kept_credentials_go_to_no_helper_of_the_user(
    start_agent: StartAgent, guarded: Remote, tmp_path: Path
) -> None:
    guarded.create("project", {"a": "x"})
    agent = start_agent()
    (agent.home / ".gitconfig").write_text(
        f'[credential]\n\thelper = store\n[credential "{guarded.base}"]\n\thelper = store\n'
    )
    git = Git(agent)

    git.do("clone", url=guarded.url("project"), path=tmp_path / "c", **CREDENTIALS)

    assert not (agent.home / ".git-credentials").exists()


def test_helper_of_the_user_is_asked_when_nothing_is_given(
    start_agent: StartAgent, guarded: Remote, tmp_path: Path
) -> None:
    guarded.create("project", {"a": "x"})
    agent = start_agent()
    (agent.home / ".gitconfig").write_text("[credential]\n\thelper = store\n")
    stored = f"http://{USER}:{quote(PASSWORD, safe='')}@127.0.0.1:{guarded.port}\n"
    (agent.home / ".git-credentials").write_text(stored)

    Git(agent).do("clone", url=guarded.url("project"), path=tmp_path / "c")


def test_plain_text_store_is_there_for_those_who_ask_for_it(
    start_agent: StartAgent, guarded: Remote, tmp_path: Path
) -> None:
    guarded.create("project", {"a": "x"})
    agent = start_agent("--git-credentials", "store")
    git = Git(agent)
    site = {"host": f"127.0.0.1:{guarded.port}", "protocol": "http"}

    git.do("credentials", **CREDENTIALS, **site)

    file = agent.home / ".git-credentials"
    assert file.stat().st_mode & 0o777 == 0o600
    assert f"{USER}:" in file.read_text()
    # Every git of the user has them now.
    run(
        "clone",
        "--quiet",
        guarded.url("project"),
        "c",
        cwd=tmp_path,
        HOME=str(agent.home),
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"username": "a\nb"},
        {"password": "a\rb"},
        {"username": "a\0b"},
        {"host": "a\nb"},
        {"host": "a/b"},
        {"protocol": "ssh"},
        {"protocol": "https\n"},
    ],
)
def test_bad_credentials_are_refused(git: Git, fields: dict[str, str]) -> None:
    body = {**CREDENTIALS, "host": "h", **fields}

    assert git.fails("credentials", **body) == (400, "BAD_REQUEST")


def test_credentials_with_a_line_end_are_refused_before_git_runs(
    git: Git, guarded: Remote, tmp_path: Path
) -> None:
    body = {"url": guarded.url("x"), "path": tmp_path / "c"}

    found = git.fails("clone", **body, username="u", password="a\nhost=evil")

    assert found == (400, "BAD_REQUEST")
    assert guarded.seen == []


def test_credentials_for_the_open_network_are_refused_before_git_runs(
    git: Git, tmp_path: Path
) -> None:
    body = {"url": "http://host.invalid/x", "path": tmp_path / "c", **CREDENTIALS}

    answer = git.post("clone", **body)

    assert answer.status == 400
    assert "https only" in answer.json()["message"]


# -- the parts -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("https://host.test/x", True),
        ("http://host.test/x", False),
        ("http://127.0.0.1:3000/x", True),
        ("http://localhost/x", True),
        ("http://[::1]:80/x", True),
        ("http://127.0.0.1.evil.test/x", False),
        ("http://localhost.evil.test/x", False),
        ("http://user@10.0.0.1/x", False),
    ],
)
def test_credentials_travel_in_the_open_on_this_machine_only(
    url: str, safe: bool
) -> None:
    site = Site.of(url)

    assert site is not None
    assert site.is_safe is safe
    assert bool(Grant(MADE, frozenset({site})).answer(site)) is safe


def test_grant_is_for_its_own_sites() -> None:
    grant = Grant(MADE, frozenset({Site("https", "a.test")}))

    assert grant.answer(Site("https", "a.test")) == (
        b"username=somebody\npassword=something\n"
    )
    for site in (
        Site("https", "b.test"),
        Site("http", "a.test"),
        Site("https", "a.test:1"),
    ):
        assert grant.answer(site) == b""


@pytest.mark.parametrize("url", ["ssh://a/b", "git@a:b", "/a/b", "file:///a", "a.b/c"])
def test_only_http_takes_credentials(url: str) -> None:
    assert Site.of(url) is None


def test_question_of_git_is_read() -> None:
    question = b"protocol=https\nhost=A.test:8443\nusername=x\nwwwauth[]=Basic\n\n"

    assert asked_site(question) == Site("https", "a.test:8443")
    assert asked_site(b"\xff\n") == Site("", "")


@pytest.mark.parametrize(
    ("url", "bare", "found"),
    [
        ("https://u:p%20w@h/x", "https://u@h/x", ("u", "p w")),
        ("https://:p@h/x", "https://h/x", ("", "p")),
        ("https://u@h/x", "https://u@h/x", None),
        ("git@h:x", "git@h:x", None),
        ("u:p@h:x", "u:p@h:x", None),
        ("https://h/a:b@c", "https://h/a:b@c", None),
    ],
)
def test_password_is_taken_out_of_an_address(
    url: str, bare: str, found: tuple[str, str] | None
) -> None:
    left, taken = split_user_info(url)

    assert left == bare
    assert (taken and (taken.username, taken.password)) == found


def test_printed_credentials_tell_nothing() -> None:
    assert "something" not in f"{MADE!r}{Grant(MADE, frozenset())!r}"


def test_messages_hold_neither_secrets_nor_user_parts() -> None:
    redaction = Redaction(["s3cret/+", "bot"])

    text = redaction.clean("fatal: https://bot:s3cret%2F%2B@h/x: s3cret/+ of bot")

    assert text == "fatal: https://h/x: *** of ***"


def test_bad_parts_are_refused() -> None:
    for protocol, host in (
        ("ftp", "h"),
        ("https", ""),
        ("https", "a b"),
        ("https", "u@h"),
    ):
        with pytest.raises(InvalidRequestError):
            check_site(protocol, host)
    with pytest.raises(InvalidRequestError):
        check_credentials("a", "b\n")


class Memory:
    """What the store needs of a keeper."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    async def kv_set(self, name: str, value: bytes) -> None:
        """Keep a value."""
        self.values[name] = value

    async def kv_get(self, name: str) -> bytes | None:
        """Return a value, if there is one."""
        return self.values.get(name)

    async def kv_delete(self, name: str) -> None:
        """Drop a value."""
        self.values.pop(name, None)


async def test_stored_credentials_are_forgotten_when_their_time_is_over() -> None:
    now, memory = [1000.0], Memory()
    keeper: Keeper = memory  # type: ignore[assignment] # as much of one as is needed
    store = CredentialStore(keeper, 60, lambda: now[0])
    site = Site("https", "a.test")

    await store.put(site, MADE)
    now[0] += 59
    assert await store.get(site) == MADE
    now[0] += 1
    assert await store.get(site) is None
    assert memory.values == {}


async def test_desk_answers_the_session_that_has_a_grant_and_nobody_else() -> None:
    desk = CredentialDesk()
    await desk.open()
    question = b"protocol=https\nhost=a.test\n\n"
    words = [sys.executable, "-I", "-S", PROGRAM, desk.helper().split()[-1]]

    async def ask(*more: str, granted: bool) -> bytes:
        helper = await asyncio.create_subprocess_exec(
            *words,
            *more,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        if granted:
            desk.grant(helper.pid, Grant(MADE, frozenset({Site("https", "a.test")})))
        found, _ = await helper.communicate(question)
        desk.revoke(helper.pid)
        return found

    assert b"password=something" in await ask("get", granted=True)
    assert await ask("get", granted=False) == b""
    assert await ask("store", granted=True) == b""
    assert await ask("erase", granted=True) == b""
    await desk.aclose()
