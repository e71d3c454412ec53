"""What is remembered of a repository's configuration, and when it is not."""

import os
import time
from pathlib import Path

from agent.git.configurations import (
    REMEMBERED_MAX,
    SETTLED_NS,
    Configurations,
    signature,
)
from agent.git.guards import Configuration, Entry, overrides
from agent.git.repository import Repository, find
from tests.git.conftest import Git
from tests.git.remote import git as run, repository
from tests.git.test_hostile import Trap

LATER = Configuration((Entry("local", "a.b", "c"),))


def aged(path: Path) -> None:
    """Wait until a file's last change is old enough to be trusted."""
    while path.stat().st_ctime_ns > time.time_ns() - SETTLED_NS:
        os.sched_yield()


def test_what_settled_files_say_is_remembered_until_one_changes(tmp_path: Path) -> None:
    repo = find(str(repository(tmp_path / "repo")), "repo")
    file = tmp_path / "repo/.git/config"
    aged(file)
    known, environment = Configurations(), {"HOME": str(tmp_path)}
    before = signature(repo, environment)

    known.put(repo, before, LATER)

    assert known.get(repo, signature(repo, environment)) is LATER
    (tmp_path / ".gitconfig").write_text("")
    assert known.get(repo, signature(repo, environment)) is None
    (tmp_path / ".gitconfig").unlink()
    times = file.stat()
    file.write_text(file.read_text())
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert known.get(repo, signature(repo, environment)) is None


def test_what_changed_a_moment_ago_or_includes_others_is_not(tmp_path: Path) -> None:
    repo = find(str(repository(tmp_path / "repo")), "repo")
    file = tmp_path / "repo/.git/config"
    known = Configurations()
    file.write_text(file.read_text())
    fresh = signature(repo, {})

    known.put(repo, fresh, LATER)
    assert known.get(repo, fresh) is None

    aged(file)
    known.put(repo, fresh, Configuration((Entry("global", "include.path", "x"),)))
    assert known.get(repo, fresh) is None


def test_repositories_remembered_are_bounded() -> None:
    known = Configurations()

    for number in range(REMEMBERED_MAX + 10):
        known.put(place(number), (), LATER)

    assert known.get(place(0), ()) is None
    assert known.get(place(REMEMBERED_MAX + 9), ()) is LATER


def place(number: int) -> Repository:
    return Repository(path="", git_dir=f"/{number}", common_dir="", work_tree=None)


def test_exploit_that_comes_between_two_calls_is_seen(
    git: Git, repo: Path, tmp_path: Path
) -> None:
    trap = Trap(tmp_path)
    aged(repo / ".git/config")
    for _ in range(2):
        git.told("status", repo)

    run("config", "core.fsmonitor", trap.line, cwd=repo)
    run("config", "filter.x.clean", trap.line, cwd=repo)
    (repo / ".gitattributes").write_text("* filter=x")
    git.do("add", path=repo, files=["."])

    assert not trap.sprung()


def test_configuration_is_read_as_git_lists_it() -> None:
    listed = (
        b"global\0user.name\nA\nB\0local\0filter.a=b.c.clean\nx\0local\0core.bare\0"
    )

    found = Configuration.parse(listed + b"command\0core.hookspath\n/dev/null\0")

    assert [(each.scope, each.key, each.value) for each in found.entries] == [
        ("global", "user.name", "A\nB"),
        ("local", "filter.a=b.c.clean", "x"),
        ("local", "core.bare", ""),
    ]
    assert (found.entries[1].section, found.entries[1].subsection) == (
        "filter",
        "a=b.c",
    )


def test_every_program_that_a_repository_names_is_overridden() -> None:
    keys = {
        "filter.x.clean": "",
        "filter.x.smudge": "",
        "filter.x.process": "",
        "filter.x.required": "false",
        "merge.x.driver": "git merge-file -q --marker-size=%L %A %O %B",
        "diff.x.command": "false",
        "diff.x.textconv": "cat",
        "diff.external": "false",
        "core.alternaterefscommand": "true",
        "core.editor": "true",
        "sequence.editor": "true",
        "gpg.program": "false",
        "gpg.ssh.program": "false",
        "remote.x.uploadpack": "git-upload-pack",
        "remote.x.receivepack": "git-receive-pack",
        "remote.x.proxy": "",
        "remote.x.mirror": "false",
        "branch.x.mergeoptions": "",
    }
    own = Configuration(tuple(Entry("local", key, "evil") for key in keys))
    users = Configuration(tuple(Entry("global", key, "mine") for key in keys))

    assert dict(overrides(own)) == keys
    assert overrides(users) == []
