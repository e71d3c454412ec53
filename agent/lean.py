"""Imports aiohttp's server without what a plain-HTTP server never uses.

`import aiohttp` runs its client half, which builds two TLS contexts and loads the
system's certificates: 40 of its 180 ms. Here the package is put in place without running
its `__init__`, so that `aiohttp.web` loads alone; the first use of anything else of it
(the proxy's client, say) runs the `__init__` after all. asyncio is imported with `ssl`
hidden, which both handle, and hashing with OpenSSL hidden, for which Python has its own.
Together with what stands in for modules that are never called, that is about 10 ms and 2 MiB.
Measured in `tests/bench`; a test fails loudly should a new aiohttp not stand it.
"""

import contextlib
import gc
import importlib
import importlib.util
import re
import sys
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec
from types import ModuleType

LATER = {
    "argparse": ("ArgumentParser",),
    "html": ("escape",),
    "urllib.request": ("getproxies", "proxy_bypass"),
}
"""What aiohttp's server imports and calls for its command line, client or pages only."""
OWN_HASHES = ("_md5", "_sha1", "_sha3", "_blake2")
"""Python's own, in every version; an interpreter built without them needs OpenSSL's."""


class _Deferred(ModuleType):
    """A package whose `__init__` runs when something that it defines is asked for."""

    loading = True

    def __getattr__(self, name: str) -> object:
        # `from . import hdrs` asks here first; the answer sends it to the file.
        if self.loading or name.startswith("__") or _is_submodule(name):
            raise AttributeError(name)
        # From here on an ordinary module, which its own loader fills in place.
        self.__class__ = ModuleType  # type: ignore[assignment] # documented by Python
        importlib.reload(self)
        return getattr(self, name)


def _is_submodule(name: str) -> bool:
    return importlib.util.find_spec(f"aiohttp.{name}") is not None


def import_server() -> None:
    """Import asyncio and `aiohttp.web`, and no more of either than a server needs.

    Does nothing when either is imported already.
    """
    if "aiohttp" in sys.modules or "asyncio" in sys.modules:
        return
    # Nothing made by importing is garbage, so looking for some is lost time; what was
    # made is then set aside, which also keeps its pages unshared for ever.
    gc.disable()
    try:
        with _hidden():
            spec = importlib.util.find_spec("aiohttp")
            if spec is None:
                raise ImportError("aiohttp is not installed")
            package = _package(spec)
            sys.modules["aiohttp"] = package
            importlib.import_module("aiohttp.web")
            package.loading = False
            # Decides once and for all, as hashlib does, whose hashes it takes.
            importlib.import_module("hmac")
    finally:
        gc.freeze()
        gc.enable()


@contextlib.contextmanager
def _hidden() -> Iterator[None]:
    """Keep modules from being imported while inside; later each can be."""
    # aiohttp would take zstd for bodies that are not accepted compressed.
    hidden: dict[str, ModuleType | None] = {"ssl": None, "backports": None}
    if all(map(importlib.util.find_spec, OWN_HASHES)):
        hidden["_hashlib"] = None
    hidden |= {name: _stand_in(name, each) for name, each in LATER.items()}
    hidden = {name: each for name, each in hidden.items() if name not in sys.modules}
    # None makes an import fail, which whoever imports these is prepared for.
    sys.modules.update(hidden)  # type: ignore[arg-type] # documented by Python
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


def _stand_in(name: str, functions: tuple[str, ...]) -> ModuleType:
    """Return a module whose functions load the real one when they are called."""
    module = ModuleType(name)
    for each in functions:
        setattr(module, each, _fetching(name, each))
    return module


def _fetching(module: str, name: str) -> Callable[..., object]:
    def fetch(*arguments: object, **options: object) -> object:
        found: object = getattr(importlib.import_module(module), name)(
            *arguments, **options
        )
        return found

    return fetch


def _package(spec: ModuleSpec) -> _Deferred:
    """Return the aiohttp package with its `__init__` not run."""
    package = _Deferred("aiohttp")
    package.__spec__ = spec
    package.__loader__ = spec.loader
    package.__file__ = spec.origin
    package.__path__ = list(spec.submodule_search_locations or ())
    package.__package__ = "aiohttp"
    source = ""
    if spec.origin:
        with open(spec.origin, encoding="utf-8") as file:
            source = file.read(200)
    version = re.search(r'__version__ = "([^"]+)"', source)
    if version is None:
        raise ImportError("this aiohttp is laid out in a way that is not known")
    package.__dict__["__version__"] = version[1]
    return package
