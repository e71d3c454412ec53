"""Shows one commit, or one file as it was in one."""

from collections.abc import AsyncGenerator

import msgspec

from agent import wire
from agent.errors import InvalidRequestError, NotFoundError
from agent.git.history.differences import Differences, Form, Found
from agent.git.history.models import Commit, Person
from agent.git.refs import check_files, check_revision
from agent.git.registry import Repositories
from agent.git.repository import Repository

FORMAT = "%H%x00%P%x00%an%x00%ae%x00%aI%x00%cn%x00%ce%x00%cI%x00%B"
EMPTY_TREE_INPUT = ("hash-object", "-t", "tree", "--stdin")


class Blob(msgspec.Struct, frozen=True, kw_only=True):
    """The content of a file in a commit."""

    size_bytes: int
    pieces: AsyncGenerator[bytes, None]


async def show(
    repositories: Repositories,
    differences: Differences,
    path: str,
    revision: str,
    form: Form,
) -> Found:
    """Return a commit with its difference to its first parent.

    Raises:
        NotFoundError: The revision names no commit.
    """
    repository = await repositories.find(path)
    commit = await commit_of(repositories, repository, revision)
    words = ["show", "--no-patch", "--no-show-signature", "--no-notes", "--no-mailmap"]
    words += ["-O/dev/null", f"--format={FORMAT}"]
    told = await repositories.read(repository, *words, commit)
    shown = _read(told.stdout)
    before = shown.parents[0] if shown.parents else None
    if before is None:
        empty = await repositories.read(repository, *EMPTY_TREE_INPUT)
        before = empty.text
    head = b'"commit":' + wire.encode(shown) + b","
    return await differences.between_trees(repository, (before, commit), form, head)


def _read(told: bytes) -> Commit:
    fields = told.decode("utf-8", "replace").split("\0", 8)
    number, parents, *people, message = fields
    return Commit(
        hash=number,
        parents=parents.split(),
        author=Person(name=people[0], email=people[1], timestamp=people[2]),
        committer=Person(name=people[3], email=people[4], timestamp=people[5]),
        # Git ends what it prints with a line end of its own.
        message=message.removesuffix("\n"),
    )


async def commit_of(
    repositories: Repositories, repository: Repository, revision: str
) -> str:
    """Return the hash of the commit that a revision names.

    Raises:
        InvalidRequestError: It could be taken for an option.
        NotFoundError: It names none.
    """
    found = await repositories.resolve_commit(repository, check_revision(revision))
    if found is None:
        raise NotFoundError(f"revision not found: {revision}")
    return found


async def show_file(
    repositories: Repositories, path: str, revision: str, file: str
) -> Blob:
    """Return a file as it was in a commit, byte by byte.

    Raises:
        NotFoundError: The revision names no commit, or the file is not in it.
        InvalidRequestError: It is a directory or a submodule there.
    """
    repository = await repositories.find(path)
    commit = await commit_of(repositories, repository, revision)
    check_files([file])
    found = await repositories.resolve(repository, f"{commit}:{file}")
    if found is None:
        message = f"file not found in {revision}: {file}"
        raise NotFoundError(message, code="FILE_NOT_FOUND")
    kind = await repositories.read(repository, "cat-file", "-t", found)
    if kind.text != "blob":
        raise InvalidRequestError(f"not a file in {revision}: {file}")
    size = await repositories.read(repository, "cat-file", "-s", found)
    pieces = repositories.runner.stream(
        ["cat-file", "blob", found], repository=repository
    )
    return Blob(size_bytes=int(size.text), pieces=pieces)
