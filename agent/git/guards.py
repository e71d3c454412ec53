"""What keeps a repository's own configuration from running programs or moving secrets.

A repository may come from a stranger: with an archive, as a mounted volume, from code
that an agent has run. Git itself trusts the file `.git/config` in it, which can name a
program for nearly everything. What the user and the system have configured is trusted;
what the repository has is looked through before each call, and every key that names
a program, moves the work tree or leads a request elsewhere is set to something harmless
in a way that wins over any file. Where nothing harmless can be set, because the longest
matching address wins, the call is refused.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from agent.errors import ConflictError

Setting = tuple[str, str]
"""A configuration key and its value."""

ALLOWED_PROTOCOLS = "https:http:ssh:git:file"
"""Not `ext`, which runs its address; `file` only reads what the user may read anyway."""

OVERRIDES_MAX = 1000
"""Keys of one repository that are overridden; one with more is up to no good."""

ALWAYS: tuple[Setting, ...] = (
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.askPass", ""),
    ("core.pager", "cat"),
    ("protocol.ext.allow", "never"),
    ("commit.gpgSign", "false"),
    ("tag.gpgSign", "false"),
    ("tag.forceSignAnnotated", "false"),
    ("push.gpgSign", "false"),
    # Each of these two runs `gpg.program`.
    ("log.showSignature", "false"),
    ("merge.verifySignatures", "false"),
    # Nothing may go on in the background when a call has ended.
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    # A submodule has a configuration of its own.
    ("submodule.recurse", "false"),
    ("fetch.recurseSubmodules", "false"),
    ("push.recurseSubmodules", "no"),
    # A remote that sends next to nothing for a minute is gone.
    ("http.lowSpeedLimit", "1000"),
    ("http.lowSpeedTime", "60"),
    ("i18n.commitEncoding", "UTF-8"),
    ("i18n.logOutputEncoding", "UTF-8"),
    ("color.ui", "false"),
    ("advice.detachedHead", "false"),
)

MERGE_AS_TEXT = "git merge-file -q --marker-size=%L %A %O %B"
"""What git does itself where a file has no merge driver of its own."""

HARMLESS: dict[tuple[str, str], str] = {
    ("filter", "clean"): "",
    ("filter", "smudge"): "",
    ("filter", "process"): "",
    ("filter", "required"): "false",
    ("merge", "driver"): MERGE_AS_TEXT,
    # A driver without a command is an error, and one that fails says so.
    ("diff", "command"): "false",
    ("diff", "textconv"): "cat",
    ("remote", "uploadpack"): "git-upload-pack",
    ("remote", "receivepack"): "git-receive-pack",
    ("remote", "proxy"): "",
    ("remote", "mirror"): "false",
    ("branch", "mergeoptions"): "",
}
"""By section and name, for keys with a subsection: the value that does nothing."""

HARMLESS_PLAIN: dict[str, str] = {
    # Run once per alternate; none of their refs is then told to a remote.
    "core.alternaterefscommand": "true",
    "diff.external": "false",
    "core.editor": "true",
    "sequence.editor": "true",
    "gpg.program": "false",
}

HARMLESS_HTTP = frozenset(
    {
        "extraheader",
        "lowspeedlimit",
        "lowspeedtime",
        "maxrequests",
        "minsessions",
        "postbuffer",
        "useragent",
        "version",
    }
)
"""What a repository may say of HTTP; the rest leads requests, or trust, elsewhere."""

OWN_SCOPES = frozenset({"local", "worktree"})


@dataclass(frozen=True)
class Entry:
    """One line of configuration.

    Attributes:
        scope: Which file it is from: `system`, `global`, `local`, `worktree`.
        key: With section and name in lower case.
        value: As it stands there.
    """

    scope: str
    key: str
    value: str

    @property
    def section(self) -> str:
        """The part before the first dot."""
        return self.key.partition(".")[0]

    @property
    def subsection(self) -> str:
        """What stands between the first and the last dot; mostly nothing."""
        return self.key.partition(".")[2].rpartition(".")[0]

    @property
    def name(self) -> str:
        """The part behind the last dot."""
        return self.key.rpartition(".")[2]

    @property
    def own(self) -> bool:
        """Whether it is the repository's own."""
        return self.scope in OWN_SCOPES


@dataclass(frozen=True)
class Configuration:
    """What git would heed in one repository, and which of it is the repository's own."""

    entries: tuple[Entry, ...] = field(default=())

    @classmethod
    def parse(cls, listed: bytes) -> "Configuration":
        """Return what `git config --list --show-scope -z` printed."""
        words = os.fsdecode(listed).split("\0")
        entries = []
        for scope, pair in zip(words[::2], words[1::2], strict=False):
            if scope == "command":
                # Our own words, told back to us.
                continue
            key, _, value = pair.partition("\n")
            entries.append(Entry(scope, key, value))
        return cls(tuple(entries))

    def values(self, key: str, *, own: bool | None = None) -> list[str]:
        """Return all values of a key; `own` asks for those of one kind of file only."""
        return [
            each.value
            for each in self.entries
            if each.key == key and own in {None, each.own}
        ]

    def last(self, key: str, *, own: bool | None = None) -> str | None:
        """Return the value that counts, or None."""
        found = self.values(key, own=own)
        return found[-1] if found else None

    def remotes(self) -> dict[str, str]:
        """Return the first address of each remote, by name."""
        found: dict[str, str] = {}
        for each in self.entries:
            if each.section == "remote" and each.name == "url" and each.subsection:
                found.setdefault(each.subsection, each.value)
        return found

    @property
    def ssh_command(self) -> str:
        """The user's own ssh, which is no repository's."""
        return self.last("core.sshcommand", own=False) or ""

    def helpers(self) -> Iterator[Setting]:
        """Give the credential helpers of user and system; a repository's run programs."""
        for each in self.entries:
            if each.section == "credential" and each.name == "helper" and not each.own:
                yield each.key, each.value


def overrides(configuration: Configuration) -> list[Setting]:
    """Return what makes a repository's own configuration harmless.

    Raises:
        ConflictError: There is more of it than any honest repository has.
    """
    found = dict(_harmless(configuration.entries))
    if len(found) > OVERRIDES_MAX:
        raise ConflictError(
            "the repository's own configuration names too many programs"
        )
    return list(found.items())


def _harmless(entries: Iterable[Entry]) -> Iterator[Setting]:
    for each in entries:
        if not each.own:
            continue
        if each.key in HARMLESS_PLAIN:
            yield each.key, HARMLESS_PLAIN[each.key]
        elif each.section == "gpg" and each.name == "program":
            yield each.key, "false"
        elif each.subsection and (each.section, each.name) in HARMLESS:
            yield each.key, HARMLESS[each.section, each.name]
            if each.section == "filter":
                # Without its program a filter that is required fails every file.
                yield f"filter.{each.subsection}.required", "false"


def refuse_detours(
    configuration: Configuration, urls: Iterable[str], *, with_credentials: bool
) -> None:
    """Refuse a request that the repository's own configuration would lead elsewhere.

    Args:
        configuration: The repository's.
        urls: The addresses that will be asked.
        with_credentials: Whether the agent would show credentials there.

    Raises:
        ConflictError: It would; the message names the key.
    """
    addresses = list(urls)
    over_http = any(urlsplit(url).scheme in {"http", "https"} for url in addresses)
    for each in configuration.entries:
        if not each.own:
            continue
        moves = (
            with_credentials
            and each.section == "url"
            and each.name in {"insteadof", "pushinsteadof"}
            and any(url.startswith(each.value) for url in addresses)
        )
        is_detour = (
            over_http and each.section == "http" and each.name not in HARMLESS_HTTP
        )
        adds = with_credentials and each.name == "extraheader" and over_http
        if moves or is_detour or adds:
            raise ConflictError(
                f"the repository's own configuration sets {each.key}, which could lead"
                " the request elsewhere; remove it, or set it for the user"
            )
