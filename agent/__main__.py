"""The command line: `toolbox-agent serve | dev | healthcheck | entrypoint logs | lsp list`.

Any other words are the sandbox's own command, as the official platform hands them over
(contract 70 §2): then the agent serves and runs them as its entrypoint.

What serves does so in four steps: as PID 1, leave an init behind; start the api, which
takes longest; read and check the options; become the keeper. Hardly anything is imported
here, because it would delay the api.
"""

import os
import sys
from collections.abc import Sequence

ASKING = (
    ["--version"],
    ["healthcheck"],
    ["entrypoint", "logs"],
    ["entrypoint", "logs", "--follow"],
    ["lsp", "list"],
)
"""Ours only when nothing else stands with them, so that no real entrypoint is misread."""
COMMANDS = ("serve", "dev")
HELP = ("--help", "-h")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words in ASKING:
        from agent.command import answer  # noqa: PLC0415 - see above

        return answer(words)
    if not words or words[0] not in {*COMMANDS, *HELP}:
        words = ["serve", *(["--", *words] if words else [])]
    ours = words[: words.index("--")] if "--" in words else words
    if set(HELP) & set(ours):
        from agent.command import show_help  # noqa: PLC0415

        return show_help(ours)
    return serve(words)


def serve(words: list[str]) -> int:
    """Become the agent; return only when that cannot be, or as the init."""
    started_as = os.getpid()
    if started_as == 1:
        from agent.keeper.init import stay_behind  # noqa: PLC0415 - see above

        ended = stay_behind()
        if ended is not None:
            return ended
    from agent.keeper.early import EarlyApi, keep_descriptors  # noqa: PLC0415

    keep_descriptors()
    early = EarlyApi.start()
    try:
        from agent.command import become_keeper  # noqa: PLC0415

        return become_keeper(words, early, started_as)
    finally:
        early.abandon()


if __name__ == "__main__":
    sys.exit(main())
