"""How code of each language is started: the words before and after the caller's own.

Each language has a program of ours that the sandbox's own interpreter runs. The code comes
in a private file whose path is the last word, never by standard input, which code may read,
nor by arguments, which are limited. No shell reads any of it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

PROGRAMS = Path(__file__).with_name("programs")


class Runtime(msgspec.Struct, frozen=True):
    """How code of one language is started.

    Attributes:
        words: Interpreter, found on the job's own PATH, and our program.
        draws: Whether the program sends charts by a pipe of its own.
    """

    words: tuple[str, ...]
    draws: bool = False

    def argv(self, arguments: Sequence[str]) -> list[str]:
        """Return the command line, to which the code's file is added."""
        return [*self.words, *arguments]


RUNTIMES: Mapping[str, Runtime] = {
    "python": Runtime(("python3", "-u", str(PROGRAMS / "run_python.py")), draws=True),
    "javascript": Runtime(("node", str(PROGRAMS / "run_node.cjs"), "javascript")),
    "typescript": Runtime(("node", str(PROGRAMS / "run_node.cjs"), "typescript")),
}
