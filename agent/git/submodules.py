"""Guards for the repositories inside of one, which `git add` runs a status in.

No option of `git add` keeps it from that (`--ignore-submodules` is another command's). It
hands on what overrides configuration, though, so what makes the inner ones harmless is
added to what makes the outer one so.
"""

import glob
import os

from agent.errors import ConflictError, NotFoundError
from agent.git.guards import Setting
from agent.git.registry import Repositories
from agent.git.repository import Repository

GITLINK = b"\x00\x00\xe0\x00"
"""The mode of a submodule in an index of any version (`git help gitformat-index`)."""
INNER_MAX = 256
"""Repositories inside of one, at any depth, that are looked through."""


async def guards_below(
    repositories: Repositories, repository: Repository
) -> list[Setting]:
    """Return what makes every repository inside of this one harmless.

    Raises:
        ConflictError: There are too many of them.
        AgentError: The configuration of one cannot be read.
    """
    found: list[Setting] = []
    waiting, seen = [repository], 0
    while waiting:
        outer = waiting.pop()
        for path in await _inside(repositories, outer):
            seen += 1
            if seen > INNER_MAX:
                raise ConflictError("the repository has too many submodules")
            try:
                inner = await repositories.find(path)
            except NotFoundError:
                # Not checked out, so nothing is run in it.
                continue
            found += inner.guards
            waiting.append(inner)
    return found


async def _inside(repositories: Repositories, outer: Repository) -> list[str]:
    """Return the absolute paths at which submodules of a repository may lie."""
    root = outer.work_tree
    if root is None or not await repositories.runner.local.run(_may_have_any, outer):
        return []
    listed = await repositories.read(outer, "ls-files", "--stage", "-z")
    lines = (line.partition("\t") for line in listed.text.split("\0"))
    return [os.path.join(root, name) for mode, _, name in lines if mode[:6] == "160000"]


def _may_have_any(repository: Repository) -> bool:
    """Tell whether an index could hold a submodule; most hold none, and reading is quick."""
    directory = repository.git_dir
    shared = os.path.join(glob.escape(directory), "sharedindex.*")
    for path in [os.path.join(directory, "index"), *glob.glob(shared)]:
        try:
            with open(path, "rb") as file:
                if GITLINK in file.read():
                    return True
        except FileNotFoundError:
            continue
    return False
