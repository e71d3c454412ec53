"""Turns what git says of a failure into the kinds that the wire knows (contract 20 §1).

Git has exit codes for nothing, so its words in the C locale are what there is. The most
specific come first; every failed push ends in `failed to push some refs`, which is why
that is never looked for.
"""

import os
import re
from collections.abc import Callable, Iterable
from urllib.parse import quote

from agent.errors import (
    AgentError,
    ConflictError,
    ForbiddenError,
    InvalidRequestError,
    NotFoundError,
    RemoteError,
    StorageFullError,
    UnauthorizedError,
    UnavailableError,
    UnprocessableError,
)
from agent.git.process import Output

MESSAGE_MAX_CHARS = 4096
"""Of what git said, told to the client (contract 20 §1)."""

Kind = Callable[..., AgentError]

RULES: tuple[tuple[str, Kind, str | None], ...] = (
    (
        r"index file (?:corrupt|smaller|is)|bad index file|index uses .* extension",
        ConflictError,
        None,
    ),
    (
        r"unable to create '.*\.lock': file exists|could not lock config file .*: file exists",
        ConflictError,
        None,
    ),
    (
        (
            r"empty ident name|name consists only of disallowed|please tell me who you are"
            r"|auto-detection is disabled|is a merge but no -m option"
        ),
        InvalidRequestError,
        None,
    ),
    (
        r"no space left on device|out of diskspace|disk quota exceeded",
        StorageFullError,
        None,
    ),
    (
        (
            r"authentication failed|invalid username or password|could not read username"
            r"|could not read password|terminal prompts disabled"
            r"|permission denied \(publickey|host key verification failed"
        ),
        UnauthorizedError,
        "GIT_AUTH_FAILED",
    ),
    (
        r"returned error: 403|remote: permission.*denied|dubious ownership",
        ForbiddenError,
        None,
    ),
    (r"transport '.*' not allowed", InvalidRequestError, None),
    (r"no such remote", NotFoundError, None),
    (
        (
            r"remote branch .* not found in upstream|couldn't find remote ref"
            r"|src refspec .* does not match any|branch '.*' not found"
        ),
        NotFoundError,
        "GIT_BRANCH_NOT_FOUND",
    ),
    (r"not our ref|unadvertised object", NotFoundError, None),
    (
        (
            r"repository not found|returned error: 404|repository '.*' (?:does not exist|not found)"
            r"|remote: not found|does not appear to be a git repository|not a git repository"
        ),
        NotFoundError,
        "GIT_REPO_NOT_FOUND",
    ),
    (
        (
            r"does not have any commits yet|unknown revision|bad revision|not a valid object name"
            r"|ambiguous argument|could not resolve|needed a single revision"
            r"|invalid object name|bad object head"
        ),
        NotFoundError,
        None,
    ),
    (r"a branch named '.*' already exists", ConflictError, "GIT_BRANCH_EXISTS"),
    (
        r"cannot delete branch|cannot lock ref|cannot update ref|used by worktree|is already checked out",
        ConflictError,
        None,
    ),
    (
        (
            r"\[remote rejected\]|pre-receive hook declined|protected branch"
            r"|remote: error:.*(?:quota|size|large|limit)"
        ),
        UnprocessableError,
        "GIT_REMOTE_REJECTED",
    ),
    (
        r"non-fast-forward|fetch first|stale info|updates were rejected",
        ConflictError,
        "GIT_PUSH_REJECTED",
    ),
    (
        (
            r"local changes to the following files would be overwritten"
            r"|untracked working tree files would be overwritten|not uptodate"
            r"|commit your changes or stash them|please commit or stash them|would be overwritten by|would lose untracked"
        ),
        ConflictError,
        "GIT_DIRTY_WORKTREE",
    ),
    (
        (
            r"not possible to fast-forward|automatic merge failed|conflict \(|needs merge"
            r"|unmerged|refusing to merge unrelated|diverging branches|merge_head exists"
            r"|middle of a merge|you need to resolve your current index"
        ),
        ConflictError,
        "GIT_MERGE_CONFLICT",
    ),
    (
        r"did not match any file",
        NotFoundError,
        "FILE_NOT_FOUND",
    ),
    (
        (
            r"is outside repository|beyond a symbolic link|not a valid branch name"
            r"|not a valid ref|is not a valid remote name|invalid pathspec|must be run in a work tree"
        ),
        InvalidRequestError,
        None,
    ),
    (r"already exists and is not an empty directory", ConflictError, None),
    (r"already exists", ConflictError, None),
    (
        (
            r"could not resolve host|failed to connect|connection refused|connection timed out"
            r"|ssl certificate problem|unable to access|early eof|the remote end hung up"
            r"|could not read from remote repository|operation too slow|unable to connect"
            r"|connection reset|gnutls|rpc failed|network is unreachable|unable to look up"
        ),
        RemoteError,
        "GIT_TRANSPORT_FAILED",
    ),
    (
        (
            r"is corrupt|object file .* is empty|unable to read tree|bad tree|missing blob"
            r"|bad config|repository version|unable to read|bad object|unable to parse"
            r"|missing object|unpack_trees|unable to unpack|inflate"
        ),
        ConflictError,
        None,
    ),
    (
        r"permission denied|read-only file system|operation not permitted",
        ForbiddenError,
        None,
    ),
    (
        r"resource temporarily unavailable|cannot fork|cannot allocate",
        UnavailableError,
        None,
    ),
)
"""What git says, by which kind of failure that is."""

NOTHING_TO_COMMIT = re.compile(
    r"nothing to commit|no changes added to commit|nothing added to commit"
)
LOCKED = re.compile(
    r"unable to create '(?P<name>.*\.lock)': file exists"
    r"|could not lock config file .*: file exists",
    re.IGNORECASE,
)
_PROGRESS = re.compile(r"^(?:remote: )?[A-Z][\w -]+:\s+(?:\d+% \(|\d+[,.])")
_NOISE = ("hint:", "Cloning into ", "warning: templates not found")
_USER_INFO = re.compile(r"(?<=://)[^/@\s]+@")


class Redaction:
    """Takes secrets out of what is told to anybody.

    Args:
        secrets: What must not be told, the worst first.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._words: list[str] = []
        for secret in secrets:
            # Also as it stands in an address.
            forms = {secret, quote(secret, safe="")}
            self._words += sorted(filter(None, forms), key=len, reverse=True)

    def clean(self, text: str) -> str:
        """Return `text` without secrets, and without the user part of addresses."""
        for word in self._words:
            text = text.replace(word, "***")
        return _USER_INFO.sub("", text)


def failure_of(output: Output, redaction: Redaction | None = None) -> AgentError:
    """Return the failure that a run of git tells of."""
    if output.cancelled:
        return UnavailableError("git was ended before it was done")
    said = _said(output)
    lowered = said.lower()
    if NOTHING_TO_COMMIT.search(lowered):
        return ConflictError("cannot create empty commit: nothing to commit")
    kind: Kind = AgentError
    code: str | None = None
    for pattern, found, its_code in RULES:
        if re.search(pattern, lowered):
            kind, code = found, its_code
            break
    message = (redaction or Redaction()).clean(said)[-MESSAGE_MAX_CHARS:]
    return kind(message or f"git failed with exit code {output.code}", code=code)


def is_locked(output: Output) -> bool:
    """Tell whether a run failed because somebody else holds a lock."""
    return output.code != 0 and LOCKED.search(_said(output)) is not None


def _said(output: Output) -> str:
    """Return what git said of its failure: no progress, no advice."""
    text = output.stderr + (b"\n" + output.stdout[-4096:] if output.stdout else b"")
    lines = os.fsdecode(text).replace("\r", "\n").splitlines()
    kept = [
        line.strip()
        for line in lines
        if line.strip() and not _PROGRESS.match(line) and not line.startswith(_NOISE)
    ]
    return "; ".join(kept)
