"""What single servers need beside the protocol, to answer as all others do.

Each of these was seen with the real server, and `tests/lsp/test_real_servers.py` fails
without it.
"""

from collections.abc import Mapping

TSSERVER = "typescript.tsserverRequest"
"""A command that hands a question on to TypeScript itself, before version 7."""

OPTIONS: Mapping[str, Mapping[str, object]] = {
    # One process of TypeScript's. With two, the first answers come from one that knows no
    # other files, and they are wrong. And nothing is fetched from npm unasked.
    "typescript-language-server": {
        "disableAutomaticTypingAcquisition": True,
        "tsserver": {"useSyntaxServer": "never"},
    },
}
"""What they are told at their start, where their own defaults do not suit us."""

SET_UP_FOR_PACKAGES = frozenset({"pyright", "basedpyright"})
"""They look for packages when they are set up, and not again when one is installed."""

SLOW_TO_DISCOVER = frozenset({"pyright", "basedpyright"})
"""They take their time over a new file that they are told of, unless it is opened."""

PROJECT_WIDE = frozenset(
    {
        "textDocument/rename",
        "textDocument/references",
        "textDocument/implementation",
        "textDocument/prepareCallHierarchy",
        "workspace/symbol",
    }
)
"""Questions whose answers miss something as long as a file is unknown."""


def hands_on(capabilities: Mapping[str, object]) -> bool:
    """Tell whether a server knows the command above."""
    offered = capabilities.get("executeCommandProvider")
    commands = offered.get("commands") if isinstance(offered, dict) else None
    return isinstance(commands, list) and TSSERVER in commands
