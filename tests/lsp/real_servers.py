"""The real language servers that tests and benches ask.

Each is installed once into the cache of the test environments, by name and version.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.clients.environments import node_with, python_with

PYTHON = "class Greeter:\n    def greet(self):\n        return 'hi'\n\n\n"
PYTHON += "greeter = Greeter()\ngreeter."
TYPESCRIPT = "export class Greeter { greet(): number { return 1 } }\n"
TYPESCRIPT += "const greeter = new Greeter()\ngreeter."


@dataclass(frozen=True)
class Real:
    """A server, and where its program is."""

    name: str
    language: str
    directory: Callable[[], Path]

    @property
    def text(self) -> str:
        """A program whose last line is a syntax error."""
        return PYTHON if self.language == "python" else TYPESCRIPT

    @property
    def file(self) -> str:
        """What it is called."""
        return "sample.py" if self.language == "python" else "sample.ts"


SERVERS = [
    Real("ty", "python", lambda: python_with("ty", "0.0.104").parent),
    Real("pylsp", "python", lambda: python_with("python-lsp-server", "1.15.0").parent),
    Real(
        "basedpyright",
        "python",
        lambda: python_with("basedpyright", "1.40.2").parent,
    ),
    Real(
        "typescript-native",
        "typescript",
        lambda: node_with("typescript", "7.0.2") / "node_modules/.bin",
    ),
    Real(
        "typescript-language-server",
        "typescript",
        lambda: (
            node_with("typescript-language-server", "5.3.0", "typescript@5.9.3")
            / "node_modules/.bin"
        ),
    ),
]

BY_NAME = {each.name: each for each in SERVERS}
