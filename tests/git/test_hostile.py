"""Repositories of strangers: every exploit works on plain git, and not through the agent."""

import os
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from tests.git.conftest import AUTHOR, CREDENTIALS, PASSWORD, Git
from tests.git.remote import (
    Remote,
    commit,
    fill,
    git as run,
    repository,
    serving,
)
from tests.git.test_local import head
from tests.support.agent import StartAgent


class Trap:
    """A program that a repository would like to have run."""

    def __init__(self, directory: Path) -> None:
        self.mark = directory / "sprung"
        self.program = directory / "trap"
        self.program.write_text(f"#!/bin/sh\ntouch {self.mark}\nexit 1\n")
        self.program.chmod(0o755)

    @property
    def line(self) -> str:
        """A shell line that springs it."""
        return str(self.program)

    def sprung(self) -> bool:
        """Tell whether it ran, and set it again."""
        found = self.mark.exists()
        self.mark.unlink(missing_ok=True)
        return found


@pytest.fixture
def trap(tmp_path: Path) -> Trap:
    """Return a trap that is set."""
    return Trap(tmp_path)


def every_local_call(git: Git, repo: Path) -> None:
    """Ask for everything that stays on this machine, whatever comes of it."""
    fill(repo, {"a.txt": "edited\n", "fresh.bin": "x"})
    for route in ("status", "branches", "history", "remotes"):
        git.get(route, repo)
    git.get("config", repo, key="a.b", scope="local")
    git.post("config", key="a.b", value="x", scope="local", path=repo)
    git.post("add", path=repo, files=["."])
    git.post("add", path=repo, files=["a.txt"])
    git.post("commit", path=repo, message="m", **AUTHOR, allow_empty=True)
    git.post("branches", path=repo, name="made")
    git.post("checkout", path=repo, branch="main")
    git.post("checkout", path=repo, branch="HEAD~1")
    git.ask("DELETE", "branches", {"path": repo, "name": "made"})
    for mode in ("soft", "mixed", "merge", "keep", "hard"):
        git.post("reset", path=repo, mode=mode)
    (repo / "a.txt").unlink(missing_ok=True)
    git.post("restore", path=repo, files=["a.txt"], source="main")
    git.post("remotes", path=repo, name="added", url="https://x.test/y")


LOCAL: dict[str, Callable[[Path, str], list[list[str]]]] = {}
"""Plant an exploit in a repository; return the plain commands that fall for it."""

Plant = Callable[[Path, str], list[list[str]]]


def planted(plant: Plant) -> Plant:
    """Add an exploit."""
    LOCAL[plant.__name__] = plant
    return plant


def set_in(repo: Path, key: str, value: str) -> None:
    run("config", key, value, cwd=repo)


def stamp(repo: Path) -> None:
    """Make the file look changed, so that it is read again."""
    fill(repo, {"a.txt": "touched\n"})


@planted
def hooks(repo: Path, line: str) -> list[list[str]]:
    for name in (
        "pre-commit",
        "post-checkout",
        "post-index-change",
        "reference-transaction",
    ):
        (repo / ".git/hooks").mkdir(exist_ok=True)
        (repo / ".git/hooks" / name).symlink_to(line)
    return [["checkout", "main"], ["add", "."]]


@planted
def hooks_path(repo: Path, line: str) -> list[list[str]]:
    fill(repo, {"h/post-checkout": f"#!/bin/sh\n{line}\n"})
    (repo / "h/post-checkout").chmod(0o755)
    set_in(repo, "core.hooksPath", str(repo / "h"))
    return [["checkout", "main"]]


@planted
def fsmonitor(repo: Path, line: str) -> list[list[str]]:
    set_in(repo, "core.fsmonitor", line)
    return [["status"]]


@planted
def fsmonitor_by_include(repo: Path, line: str) -> list[list[str]]:
    (repo / ".git/more").write_text(f"[core]\n\tfsmonitor = {line}\n")
    set_in(repo, "include.path", "more")
    return [["status"]]


@planted
def fsmonitor_of_a_work_tree(repo: Path, line: str) -> list[list[str]]:
    set_in(repo, "core.repositoryFormatVersion", "1")
    set_in(repo, "extensions.worktreeConfig", "true")
    (repo / ".git/config.worktree").write_text(f"[core]\n\tfsmonitor = {line}\n")
    return [["status"]]


@planted
def clean_filter(repo: Path, line: str) -> list[list[str]]:
    fill(repo, {".gitattributes": "* filter=evil"})
    set_in(repo, "filter.evil.clean", line)
    set_in(repo, "filter.evil.required", "true")
    stamp(repo)
    return [["add", "."], ["status"]]


@planted
def clean_filter_with_a_name_that_cuts_options(
    repo: Path, line: str
) -> list[list[str]]:
    fill(repo, {".gitattributes": "* filter=a=b"})
    set_in(repo, "filter.a=b.clean", line)
    stamp(repo)
    return [["add", "."]]


@planted
def process_filter(repo: Path, line: str) -> list[list[str]]:
    fill(repo, {".gitattributes": "* filter=evil"})
    set_in(repo, "filter.evil.process", line)
    stamp(repo)
    return [["add", "."]]


@planted
def smudge_filter(repo: Path, line: str) -> list[list[str]]:
    fill(repo, {".gitattributes": "* filter=evil"})
    set_in(repo, "filter.evil.smudge", line)
    (repo / "a.txt").unlink()
    return [["checkout", "--", "a.txt"]]


@planted
def signatures_shown(repo: Path, line: str) -> list[list[str]]:
    signed = run("cat-file", "commit", "HEAD", cwd=repo).replace(
        "\n\n",
        "\ngpgsig -----BEGIN PGP SIGNATURE-----\n \n x\n -----END PGP SIGNATURE-----\n\n",
        1,
    )
    (repo / "signed").write_text(signed)
    made = run("hash-object", "-t", "commit", "-w", "signed", cwd=repo)
    (repo / "signed").unlink()
    run("update-ref", "refs/heads/main", made, cwd=repo)
    set_in(repo, "log.showSignature", "true")
    set_in(repo, "gpg.program", line)
    return [["log"]]


@planted
def signing(repo: Path, line: str) -> list[list[str]]:
    set_in(repo, "commit.gpgSign", "true")
    set_in(repo, "gpg.program", line)
    set_in(repo, "user.signingKey", "x")
    return [["commit", "--allow-empty", "-m", "m"]]


@planted
def submodule_of_its_own_mind(repo: Path, line: str) -> list[list[str]]:
    inner = repository(repo / "inner", {"x": "1"})
    run(
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "--quiet",
        "add",
        "./inner",
        cwd=repo,
    )
    commit(repo, "with a submodule")
    set_in(inner, "core.fsmonitor", line)
    set_in(inner, "filter.evil.clean", line)
    fill(inner, {"x": "2", ".gitattributes": "* filter=evil"})
    set_in(repo, "submodule.recurse", "true")
    return [["status"]]


@pytest.mark.parametrize("name", LOCAL)
def test_configured_program_is_not_run_by_local_work(
    git: Git, repo: Path, trap: Trap, name: str
) -> None:
    commit(repo, "second", {"a.txt": "two\n"})
    plain = LOCAL[name](repo, trap.line)
    trap.sprung()
    for words in plain:
        run(*words, cwd=repo, check=False)
    assert trap.sprung(), "the exploit does not work, so the test proves nothing"

    every_local_call(git, repo)

    assert not trap.sprung()


def test_filters_that_are_left_out_leave_the_content_as_it_is(
    git: Git, repo: Path
) -> None:
    fill(repo, {".gitattributes": "* filter=evil", "x": "content\n"})
    set_in(repo, "filter.evil.clean", "false")
    set_in(repo, "filter.evil.required", "true")

    git.do("add", path=repo, files=["."])

    assert run("show", ":x", cwd=repo) == "content"


def test_filter_of_the_user_is_run(git: Git, repo: Path) -> None:
    fill(repo, {".gitattributes": "* filter=mine", "x": "content\n"})
    git.do("config", key="filter.mine.clean", value="tr a-z A-Z")
    try:
        git.do("add", path=repo, files=["x"])
    finally:
        (git.agent.home / ".gitconfig").unlink()

    assert run("show", ":x", cwd=repo) == "CONTENT"


def test_work_tree_of_the_configuration_is_not_written_to(
    git: Git, repo: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    set_in(repo, "core.worktree", str(home))
    run("reset", "--hard", cwd=repo)
    assert (home / "a.txt").exists(), "the exploit does not work"
    (home / "a.txt").unlink()
    fill(repo, {"a.txt": "edited\n"})

    git.do("reset", path=repo, mode="hard")

    assert not (home / "a.txt").exists()
    assert (repo / "a.txt").read_text() == "one\n"


@pytest.mark.parametrize(
    "name", ["", "index", "logs", "logs/HEAD", "config", "refs/heads"]
)
def test_link_in_place_of_gits_own_is_refused(
    git: Git, repo: Path, tmp_path: Path, name: str
) -> None:
    entry = repo / ".git" / name
    elsewhere = tmp_path / "elsewhere"
    entry.rename(elsewhere)
    entry.symlink_to(elsewhere)
    fill(repo, {"a.txt": "edited"})
    before = snapshot(elsewhere)

    assert git.fails("add", path=repo, files=["."]) == (400, "BAD_REQUEST")
    assert git.fails("commit", path=repo, message="m", **AUTHOR) == (400, "BAD_REQUEST")
    assert snapshot(elsewhere) == before


@pytest.mark.parametrize("name", ["", "HEAD", "config", "packed-refs", "commondir"])
def test_pipe_in_place_of_gits_own_is_refused_at_once(
    git: Git, repo: Path, name: str
) -> None:
    entry = repo / ".git" / name
    if entry.exists():
        entry.rename(repo / "elsewhere")
    os.mkfifo(entry)

    assert git.refused("status", repo) == (400, "BAD_REQUEST")
    assert git.refused("history", repo) == (400, "BAD_REQUEST")
    assert git.fails("add", path=repo, files=["."]) == (400, "BAD_REQUEST")


@pytest.mark.parametrize(
    ("name", "route"),
    [
        ("src/.gitignore", "status"),
        (".git/refs/heads/main", "branches"),
        (".git/refs/heads/main", "history"),
    ],
)
def test_pipe_that_git_waits_for_is_found_and_named(
    git: Git, repo: Path, name: str, route: str
) -> None:
    pipe = repo / name
    pipe.unlink(missing_ok=True)
    os.mkfifo(pipe)

    answer = git.get(route, repo)

    assert answer.status == 400
    assert str(pipe) in answer.json()["message"]
    pipe.unlink()
    assert git.get("status", repo).status == 200


def test_change_that_waits_for_a_pipe_leaves_no_lock(git: Git, repo: Path) -> None:
    os.mkfifo(repo / ".gitignore")

    assert git.fails("add", path=repo, files=["."]) == (400, "BAD_REQUEST")

    assert not list((repo / ".git").rglob("*.lock"))
    (repo / ".gitignore").unlink()
    git.do("add", path=repo, files=["."])


def snapshot(path: Path) -> dict[str, bytes]:
    every = [path] if path.is_file() else sorted(path.rglob("*"))
    return {str(each): each.read_bytes() for each in every if each.is_file()}


# -- remotes -------------------------------------------------------------------------


def pulls_and_pushes(git: Git, repo: Path) -> None:
    git.post("pull", path=repo)
    git.post("pull", path=repo, **CREDENTIALS)
    git.post("push", path=repo)
    git.post("push", path=repo, **CREDENTIALS)


@pytest.mark.parametrize(
    ("key", "url", "plain"),
    [
        ("core.sshCommand", "ssh://localhost/x", ["fetch"]),
        ("core.gitProxy", "git://127.0.0.1:9/x", ["fetch"]),
        ("remote.origin.uploadpack", "{bare}", ["fetch"]),
        ("remote.origin.receivepack", "{bare}", ["push", "origin", "main"]),
        ("credential.helper", "{http}", ["fetch"]),
        ("credential.{http}.helper", "{http}", ["fetch"]),
        ("core.askPass", "{http}", ["fetch"]),
    ],
)
def test_configured_program_is_not_run_by_remote_work(  # noqa: PLR0917 - fixtures
    git: Git,
    repo: Path,
    guarded: Remote,
    trap: Trap,
    key: str,
    url: str,
    plain: list[str],
) -> None:
    guarded.create("project", {"x": "1"})
    places = {"bare": guarded.bare("project"), "http": guarded.url("project")}
    run("remote", "add", "origin", url.format(**places), cwd=repo)
    set_in(repo, key.format(**places), trap.line)
    run(*plain, cwd=repo, check=False, GIT_TERMINAL_PROMPT="0")
    assert trap.sprung(), "the exploit does not work"

    pulls_and_pushes(git, repo)

    assert not trap.sprung()


@pytest.mark.parametrize(
    "key", ["remote.origin.url", "remote.origin.pushurl", "rewritten"]
)
def test_address_that_is_a_program_is_refused(
    git: Git, repo: Path, trap: Trap, key: str
) -> None:
    program = f"ext::{trap.line}"
    set_in(repo, "protocol.ext.allow", "always")
    run("remote", "add", "origin", "https://host.invalid/x", cwd=repo)
    if key == "rewritten":
        set_in(repo, f"url.{program}.insteadOf", "https://host.invalid/x")
    else:
        set_in(repo, key, program)
    run(
        "fetch" if key != "remote.origin.pushurl" else "push",
        "origin",
        "main",
        cwd=repo,
        check=False,
    )
    assert trap.sprung(), "the exploit does not work"

    found = {git.post("pull", path=repo).status, git.post("push", path=repo).status}

    assert not trap.sprung()
    assert found & {400}


def test_program_for_alternates_is_not_run(
    git: Git, repo: Path, remote: Remote, trap: Trap, tmp_path: Path
) -> None:
    remote.create("project", {"x": "1"})
    other = repository(tmp_path / "other", {"y": "1"})
    (repo / ".git/objects/info/alternates").write_text(f"{other}/.git/objects\n")
    run("remote", "add", "origin", remote.url("project"), cwd=repo)
    set_in(repo, "core.alternateRefsCommand", trap.line)
    run("fetch", "origin", cwd=repo, check=False)
    assert trap.sprung(), "the exploit does not work"
    run("update-ref", "-d", "refs/remotes/origin/main", cwd=repo)
    remote.commit("project", "more", {"x": "2"})

    git.post("pull", path=repo)

    assert not trap.sprung()


def test_clone_runs_nothing_of_what_it_brings(
    git: Git, remote: Remote, trap: Trap, tmp_path: Path
) -> None:
    work = repository(tmp_path / "evil")
    fill(
        work,
        {
            ".gitattributes": "* filter=evil diff=evil",
            ".gitmodules": f'[submodule "x"]\n\tpath = x\n\turl = ext::{trap.line}\n\tupdate = !{trap.line}\n',
            "hooks/post-checkout": f"#!/bin/sh\n{trap.line}\n",
        },
    )
    commit(work, "evil")
    remote.create("project")
    run("push", "--quiet", str(remote.bare("project")), "main", cwd=work)

    git.do("clone", url=remote.url("project"), path=tmp_path / "clone")

    assert not trap.sprung()
    assert git.files(tmp_path / "clone") == {}


# -- where credentials go ------------------------------------------------------------


@pytest.fixture
def stranger(tmp_path: Path) -> Iterator[Remote]:
    """Serve as somebody who asks for credentials."""
    with serving(tmp_path / "stranger", users={"nobody": "x"}) as found:
        yield found


def shown(server: Remote) -> list[str]:
    """Return the credentials that a server was shown."""
    return [given for _, given in server.seen if given]


def test_rewritten_address_gets_no_credentials(
    git: Git, repo: Path, guarded: Remote, stranger: Remote, tmp_path: Path
) -> None:
    guarded.create("project", {"x": "1"})
    run("remote", "add", "origin", guarded.url("project"), cwd=repo)
    set_in(repo, f"url.{stranger.base}/.insteadOf", f"{guarded.base}/")
    asker = tmp_path / "asker"
    asker.write_text(f"#!/bin/sh\necho '{PASSWORD}'\n")
    asker.chmod(0o755)
    run("fetch", "origin", cwd=repo, check=False, GIT_ASKPASS=str(asker))
    assert shown(stranger), "the exploit does not work"
    stranger.seen.clear()

    found = git.fails("pull", path=repo, **CREDENTIALS)

    assert found == (409, "CONFLICT")
    assert shown(stranger) == []
    git.do(
        "credentials", **CREDENTIALS, host=f"127.0.0.1:{guarded.port}", protocol="http"
    )
    assert git.fails("push", path=repo) == (409, "CONFLICT")
    assert shown(stranger) == []


def test_redirect_takes_no_credentials_along(
    git: Git, guarded: Remote, stranger: Remote, tmp_path: Path
) -> None:
    def redirect(handler: BaseHTTPRequestHandler) -> bool:
        handler.send_response(302)
        handler.send_header("Location", stranger.base + handler.path)
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return True

    guarded.before = redirect

    body = {"url": guarded.url("x"), "path": tmp_path / "clone", **CREDENTIALS}
    assert git.fails("clone", **body) == (401, "GIT_AUTH_FAILED")

    assert stranger.seen
    assert shown(stranger) == []


@pytest.mark.parametrize(
    "name",
    [
        "proxy",
        "sslVerify",
        "sslCAInfo",
        "cookieFile",
        "saveCookies",
        "sslCert",
        "extraHeader",
    ],
)
@pytest.mark.parametrize("by_address", [False, True])
def test_repository_does_not_say_where_credentials_travel(
    git: Git, repo: Path, guarded: Remote, name: str, by_address: bool
) -> None:
    guarded.create("project", {"x": "1"})
    url = guarded.url("project")
    run("remote", "add", "origin", url, cwd=repo)
    set_in(repo, f"http.{url}.{name}" if by_address else f"http.{name}", "x")

    found = git.fails("pull", path=repo, **CREDENTIALS)

    assert found == (409, "CONFLICT")
    assert guarded.seen == []


def test_variables_of_the_agents_own_start_do_not_redirect_git(
    tmp_path: Path, start_agent: StartAgent, trap: Trap
) -> None:
    repo = repository(tmp_path / "mine", {"a": "1"})
    other = repository(tmp_path / "other", {"b": "1"})
    fill(repo, {"a": "2"})
    trace = tmp_path / "trace"
    env = {
        "GIT_DIR": f"{other}/.git",
        "GIT_INDEX_FILE": f"{other}/.git/index",
        "GIT_TRACE": str(trace),
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "core.fsmonitor",
        "GIT_CONFIG_VALUE_0": trap.line,
        "GIT_SSL_NO_VERIFY": "1",
        "GIT_NAMESPACE": "x",
    }
    git = Git(start_agent(env=env))

    assert git.files(repo) == {"a": ("Unmodified", "Modified")}
    made = git.commit(repo, allow_empty=True)

    assert head(repo) == made
    # Nothing but GitPython's own question for the version, which touches no repository.
    assert {
        line.split("built-in: ")[-1] for line in trace.read_text().splitlines()
    } <= {"git version"}
    assert not trap.sprung()


def test_repository_of_another_user_is_not_refused(git: Git, repo: Path) -> None:
    if os.geteuid():
        pytest.skip("needs root to give a repository away")
    for each in [repo, *repo.rglob("*")]:
        os.chown(each, 12345, 12345, follow_symlinks=False)

    assert git.told("status", repo)["currentBranch"] == "main"
    git.commit(repo, allow_empty=True)


def test_clone_of_what_belongs_to_another_user_is_for_the_user_to_allow(
    git: Git, repo: Path, tmp_path: Path
) -> None:
    if os.geteuid():
        pytest.skip("needs root to give a repository away")
    for each in [repo, *repo.rglob("*")]:
        os.chown(each, 12345, 12345, follow_symlinks=False)
    configuration = git.agent.home / ".gitconfig"

    for url in (str(repo), f"file://{repo}"):
        body = {"url": url, "path": tmp_path / "clone"}
        assert git.fails("clone", **body) == (403, "FORBIDDEN")
        assert not (tmp_path / "clone").exists()
    configuration.write_text(f"[safe]\n\tdirectory = {repo}/.git\n")
    git.do("clone", url=str(repo), path=tmp_path / "clone")
    configuration.unlink()

    assert (tmp_path / "clone/a.txt").read_text() == "one\n"
