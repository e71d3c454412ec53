"""The environment that git is run with: a new command's, without what would redirect git.

Variables reach whatever git starts: a hook, a filter, ssh. So nothing secret is among
them, and of the caller's own `GIT_*` only those that say where configuration and
certificates lie.
"""

import os
from collections.abc import Iterable, Mapping

from agent.git.guards import ALLOWED_PROTOCOLS, Setting

KEPT = frozenset(
    {
        "GIT_CONFIG_GLOBAL",
        "GIT_CONFIG_NOSYSTEM",
        "GIT_CONFIG_SYSTEM",
        "GIT_SSL_CAINFO",
        "GIT_SSL_CAPATH",
    }
)
"""Variables of git's that the user may set for all of its programs."""

FIXED = {
    "GIT_ALLOW_PROTOCOL": ALLOWED_PROTOCOLS,
    # Empty: nothing is asked by a program either, whatever the configuration says.
    "GIT_ASKPASS": "",
    "SSH_ASKPASS": "",
    "GIT_TERMINAL_PROMPT": "0",
    # Else `git log` writes each commit apart, and each costs a hand-over.
    "GIT_FLUSH": "0",
    "GIT_EDITOR": "true",
    "GIT_SEQUENCE_EDITOR": "true",
    "GIT_PAGER": "cat",
    # Names of files are names, never patterns.
    "GIT_LITERAL_PATHSPECS": "1",
    # Wins over `core.gitProxy`, which names a program.
    "GIT_PROXY_COMMAND": "",
    "LC_ALL": "C",
    "LANGUAGE": "C",
}
READING = {"GIT_OPTIONAL_LOCKS": "0"}
"""For what only looks: it neither waits for locks nor takes them."""

SSH = "ssh -oBatchMode=yes -oConnectTimeout=30 -oServerAliveInterval=20"
"""Never asks; a host that is gone is given up after a minute."""


def variables(
    base: Mapping[str, str],
    settings: Iterable[Setting],
    *,
    owner_tag: str,
    ssh_command: str = "",
    extra: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return git's whole environment.

    Args:
        base: What new commands are started with.
        settings: Configuration that wins over every file.
        owner_tag: By which the keeper knows the api's children.
        ssh_command: The user's own, which is no repository's.
        extra: Further variables of git's.
    """
    found = {
        name: value
        for name, value in base.items()
        if not name.startswith("GIT_") or name in KEPT
    }
    ssh = base.get("GIT_SSH_COMMAND") or ssh_command or SSH
    found |= FIXED | {"GIT_SSH_COMMAND": ssh, "TOOLBOX_OWNER": owner_tag}
    pairs = list(settings)
    # Not by `-c`, whose words are cut at the first `=`, which a name may hold.
    found["GIT_CONFIG_COUNT"] = str(len(pairs))
    for number, (key, value) in enumerate(pairs):
        found[f"GIT_CONFIG_KEY_{number}"] = key
        found[f"GIT_CONFIG_VALUE_{number}"] = value
    return found | dict(extra or {})


def unsetting(wanted: Mapping[str, str]) -> list[str]:
    """Return the words before a command that take away what it must not inherit.

    GitPython adds to this process's environment and cannot take from it. Mostly there is
    nothing to take, and the command runs without another before it.
    """
    surplus = [name for name in os.environ if name not in wanted]
    if not surplus:
        return []
    return ["env", *(word for name in surplus for word in ("-u", name)), "--"]
