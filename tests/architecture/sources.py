"""What the agent's own source files import and mention, read without running them."""

import ast
import functools
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "agent"


@dataclass(frozen=True)
class Import:
    """One module that a file names, and whether that happens on its own import."""

    module: str
    at_once: bool


@dataclass(frozen=True)
class Source:
    """One file of the package, named as in `files/paths.py`."""

    name: str
    tree: ast.Module

    @property
    def room(self) -> str:
        """The folder it lies in; of a file in the package itself, the file's name."""
        return self.name.split("/")[0]

    def imports(self) -> list[Import]:
        """Return what it imports; `from agent import wire` is `agent.wire`."""
        inside = {
            id(node)
            for function in ast.walk(self.tree)
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
            for node in ast.walk(function)
        }
        return [
            Import(module, id(node) not in inside)
            for node in ast.walk(self.tree)
            for module in _modules(node)
        ]

    def modules(self) -> set[str]:
        """Return the names of what it imports."""
        return {each.module for each in self.imports()}

    @functools.cached_property
    def names(self) -> frozenset[str]:
        """What it uses by name: a function, or a dotted name as `os.environ`."""
        nodes = ast.walk(self.tree)
        return frozenset(
            ast.unparse(each)
            for each in nodes
            if isinstance(each, ast.Name)
            or (isinstance(each, ast.Attribute) and isinstance(each.value, ast.Name))
        )


def _modules(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [each.name for each in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    assert node.level == 0, "imports are absolute"
    package = node.module or ""
    return [
        f"{package}.{each.name}" if _is_module(package, each.name) else package
        for each in node.names
    ]


def _is_module(package: str, name: str) -> bool:
    place = ROOT / package.replace(".", "/") / name
    return place.with_suffix(".py").exists() or (place / "__init__.py").exists()


@functools.cache
def sources() -> tuple[Source, ...]:
    """Return all files of the package."""
    return tuple(
        Source(path.relative_to(PACKAGE).as_posix(), ast.parse(path.read_bytes()))
        for path in sorted(PACKAGE.rglob("*.py"))
    )


def own(module: str) -> list[str]:
    """Return the parts of a module of ours below the package, else nothing."""
    return module.split(".")[1:] if module.startswith("agent.") else []


def reached(start: str) -> set[str]:
    """Return the files that importing the file `start` brings in, itself included."""
    by_name = {source.name: source for source in sources()}
    found: set[str] = set()
    front = [start]
    while front:
        name = front.pop()
        if name in found or name not in by_name:
            continue
        found.add(name)
        parts = [own(module) for module in by_name[name].modules()]
        front += ["/".join(each) + ".py" for each in parts if each]
    return found


def tracked() -> list[Path]:
    """Return every file under version control."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True
    )
    names = listed.stdout.decode().split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]
