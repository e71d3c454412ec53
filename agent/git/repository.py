"""Finds the repository that a path names: that one, never one around it.

Links inside the place where git keeps its own are refused: git writes through them, so
they would lead a commit into another repository, or its log into any file of the user's.
"""

import os
import re
import stat
from dataclasses import dataclass, field

from agent.errors import InvalidRequestError, NotFoundError
from agent.git.guards import Configuration, Setting

REPO_NOT_FOUND = "GIT_REPO_NOT_FOUND"
GITFILE_MAX_BYTES = 4096 + len("gitdir: \n")

WHOLE_HASH = re.compile(rb"([0-9a-f]{40}|[0-9a-f]{64})\n")

WRITTEN = (
    "HEAD",
    "config",
    "config.worktree",
    "index",
    "info",
    "logs",
    "logs/HEAD",
    "modules",
    "objects",
    "packed-refs",
    "refs",
    "refs/heads",
    "refs/remotes",
    "refs/tags",
    "shallow",
    "worktrees",
)
"""What git writes, or writes into, and so must not be a link to somewhere else."""

READ = ("commondir", "info/attributes", "info/exclude", "objects/info/alternates")
"""What it only reads, but at every turn."""


@dataclass(frozen=True, kw_only=True)
class Repository:
    """One repository, and what its configuration says.

    Attributes:
        path: As the client named it.
        git_dir: Where git keeps HEAD and the index of this work tree.
        common_dir: Where it keeps what all work trees share.
        work_tree: The root of the files; None when the repository is bare.
        configuration: What git would heed.
        guards: What makes it harmless; set for every call.
    """

    path: str
    git_dir: str
    common_dir: str
    work_tree: str | None
    configuration: Configuration = field(default_factory=Configuration)
    guards: tuple[Setting, ...] = ()

    @property
    def root(self) -> str:
        """The directory in which git is run."""
        return self.work_tree or self.git_dir

    @property
    def words(self) -> list[str]:
        """The options of git that name exactly this repository."""
        named = [f"--git-dir={self.git_dir}"]
        if self.work_tree is not None:
            # Whatever `core.worktree` says, which could be the home directory.
            named.append(f"--work-tree={self.work_tree}")
        return named

    def require_work_tree(self) -> str:
        """Return the root of the files.

        Raises:
            InvalidRequestError: The repository is bare.
        """
        if self.work_tree is None:
            raise InvalidRequestError(f"repository is bare: {self.path}")
        return self.work_tree


def find(path: str, shown: str) -> Repository:
    """Return the repository whose root is `path`; looks at the disk.

    Args:
        path: Absolute.
        shown: As the client named it.

    Raises:
        NotFoundError: There is none, or nothing at all.
        InvalidRequestError: Its own files are links to elsewhere.
        PermissionError: The system refuses.
    """
    root = os.path.realpath(path)
    inner = os.path.join(root, ".git")
    try:
        found = os.lstat(inner)
    except (FileNotFoundError, NotADirectoryError) as error:
        if not looks_like_repository(root):
            raise NotFoundError(
                f"not a git repository: {shown}", code=REPO_NOT_FOUND
            ) from error
        _refuse_traps(root)
        return Repository(path=shown, git_dir=root, common_dir=root, work_tree=None)
    if stat.S_ISLNK(found.st_mode):
        raise InvalidRequestError(f"{shown}/.git is a link, which is not followed")
    git_dir = inner if stat.S_ISDIR(found.st_mode) else _named_by_file(inner, shown)
    common_dir = _common_dir(git_dir)
    if not looks_like_repository(git_dir, common_dir):
        raise NotFoundError(f"not a git repository: {shown}", code=REPO_NOT_FOUND)
    for each in {git_dir, common_dir}:
        _refuse_traps(each)
    return Repository(
        path=shown, git_dir=git_dir, common_dir=common_dir, work_tree=root
    )


def looks_like_repository(git_dir: str, common_dir: str | None = None) -> bool:
    """Tell whether git would take a directory for one of its own."""
    shared = common_dir or git_dir
    return (
        os.path.lexists(os.path.join(git_dir, "HEAD"))
        and os.path.isdir(os.path.join(shared, "objects"))
        and os.path.isdir(os.path.join(shared, "refs"))
    )


def holds_repository(path: str) -> bool:
    """Tell whether a directory is, or has, a repository of its own."""
    return os.path.lexists(os.path.join(path, ".git")) or looks_like_repository(path)


def written_head(repository: Repository) -> str | None:
    """Return the commit that HEAD leads to, when a file says so; looks at the disk.

    That is so where git has just committed (`git help gitrepository-layout`); else, as
    with packed refs or another store of refs, git has to be asked.
    """
    try:
        words = _read(os.path.join(repository.git_dir, "HEAD"))
        if words.startswith(b"ref: refs/heads/"):
            name = os.fsdecode(words.removeprefix(b"ref: ").rstrip(b"\n"))
            if ".." in name:
                return None
            words = _read(os.path.join(repository.common_dir, name))
    except (OSError, InvalidRequestError):
        return None
    found = WHOLE_HASH.fullmatch(words)
    return found[1].decode() if found else None


def _named_by_file(file: str, shown: str) -> str:
    """Return the directory that a `.git` file names (`git help gitrepository-layout`)."""
    words = _read(file)
    if not words.startswith(b"gitdir: "):
        raise NotFoundError(f"not a git repository: {shown}", code=REPO_NOT_FOUND)
    named = os.fsdecode(words.removeprefix(b"gitdir: ").rstrip(b"\r\n"))
    return os.path.realpath(os.path.join(os.path.dirname(file), named))


def _common_dir(git_dir: str) -> str:
    """Return what a linked work tree shares with the others; else the directory itself."""
    try:
        words = _read(os.path.join(git_dir, "commondir"))
    except (FileNotFoundError, NotADirectoryError):
        return git_dir
    named = os.fsdecode(words.rstrip(b"\r\n"))
    return os.path.realpath(os.path.join(git_dir, named))


def _read(file: str) -> bytes:
    """Return what a small file says.

    Raises:
        InvalidRequestError: It is none, but a pipe, say, which would be waited for.
    """
    opened = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(opened).st_mode):
            raise InvalidRequestError(f"{file} is no regular file")
        return os.read(opened, GITFILE_MAX_BYTES)
    finally:
        os.close(opened)


def _refuse_traps(git_dir: str) -> None:
    """Refuse links that git would write through, and pipes that it would wait for."""
    for name in (*WRITTEN, *READ):
        entry = os.path.join(git_dir, name)
        try:
            mode = os.lstat(entry).st_mode
        except OSError:
            continue
        if stat.S_ISLNK(mode) and name not in READ:
            raise InvalidRequestError(
                f"{entry} is a link, which git would write through"
            )
        if not (stat.S_ISLNK(mode) or stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise InvalidRequestError(f"{entry} is no regular file")
