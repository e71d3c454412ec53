"""Imports point one way, and the heavy ones wait until they are needed."""

import sys

from tests.architecture.sources import Source, own, reached, sources

GROUND = {"errors", "settings", "version", "wire"}
"""Files that every room stands on; they know no room."""

MAY_USE = {
    "keeper": {"errors", "settings", "version"},
    "web": GROUND,
    "files": {*GROUND, "registry", "web", "keeper"},
    "git": {*GROUND, "registry", "web", "keeper", "files"},
    "process": {*GROUND, "registry", "web", "keeper", "system", "files"},
    "sessions": {*GROUND, "registry", "web", "keeper", "process", "system"},
    "pty": {*GROUND, "registry", "web", "keeper", "process", "system"},
    "interpreter": {*GROUND, "registry", "web", "keeper", "process", "system"},
    "lsp": {*GROUND, "registry", "web", "keeper", "files"},
    "events": {*GROUND, "registry", "web", "keeper"},
    "metrics": {*GROUND, "registry", "web", "keeper"},
    "ports": {*GROUND, "registry", "web", "keeper"},
    "system": {*GROUND, "registry", "web", "keeper"},
    "dev": {*GROUND, "registry", "web", "system"},
    "console": {*GROUND, "registry", "web"},
    "errors.py": set(),
    "version.py": set(),
    "settings.py": set(),
    "wire.py": {"errors"},
    "registry.py": {"settings", "keeper", "files"},
    "state.py": {"settings"},
    "healthcheck.py": {"settings"},
    "lean.py": set(),
    "entrypoint_logs.py": {"settings", "keeper"},
}
"""What each room, and each file beside them, may import of the package.

`app.py`, `api.py`, `command.py` and `__main__.py` put everything together and are not listed.
"""

ASSEMBLY = {"app.py", "api.py", "command.py", "__main__.py", "__init__.py"}

ONLY_IN = {
    "git": ("git/",),
    "gitdb": ("git/",),
    "pygls": ("lsp/client.py",),
    "lsprotocol": (),
    "opentelemetry": ("system/telemetry/",),
    "prometheus_client": ("metrics/exposition.py",),
    "subprocess": ("git/", "lsp/"),
    "multiprocessing": (),
    "pty": (),
    "socketserver": (),
    "requests": (),
}
"""Modules, and the places that alone may import them."""

LATE = {
    "backports",
    "git",
    "pygls",
    "lsprotocol",
    "watchfiles",
    "psutil",
    "ssl",
    "uvloop",
}
"""Loaded by the first use, inside a function: starting the agent needs none of them."""

AIOHTTP_ROOMS = ("web/", "dev/", "ports/proxy/")
AIOHTTP_FILES = ("app.py", "api.py", "__main__.py", "registry.py", "lean.py")
"""Who may know that this is aiohttp, beside every room's `routes.py`."""


def top(module: str) -> str:
    """Return the package that a module belongs to."""
    return module.split(".", maxsplit=1)[0]


def used_rooms(source: Source) -> set[str]:
    """Return the rooms, and the files beside them, that a file imports."""
    return {parts[0] for module in source.modules() if (parts := own(module))}


def test_every_room_says_what_it_may_use() -> None:
    rooms = {source.room for source in sources() if source.name not in ASSEMBLY}

    assert rooms <= set(MAY_USE)


def test_imports_point_one_way() -> None:
    wrong: dict[str, set[str]] = {}
    for source in sources():
        if source.name not in ASSEMBLY:
            room = source.room.removesuffix(".py")
            extra = used_rooms(source) - MAY_USE.get(source.room, set()) - {room}
            wrong |= {source.name: extra} if extra else {}

    assert not wrong


def test_no_room_uses_the_routes_of_another() -> None:
    wrong = {
        source.name: parts
        for source in sources()
        for parts in map(own, source.modules())
        if parts[1:] == ["routes"]
        and parts[0] not in {source.room, "web"}
        and source.name not in ASSEMBLY
    }

    assert not wrong


def test_only_the_edge_knows_aiohttp() -> None:
    wrong = [
        source.name
        for source in sources()
        if "aiohttp" in map(top, source.modules())
        and not source.name.startswith(AIOHTTP_ROOMS)
        and not source.name.endswith("/routes.py")
        and source.name not in AIOHTTP_FILES
    ]

    assert not wrong


def test_only_the_branch_for_dev_loads_the_dev_room() -> None:
    users = {
        source.name: [
            each for each in source.imports() if own(each.module)[:1] == ["dev"]
        ]
        for source in sources()
        if source.room != "dev"
    }
    users = {name: imports for name, imports in users.items() if imports}

    assert set(users) <= {"app.py", "api.py"}
    assert not [each for imports in users.values() for each in imports if each.at_once]


def test_the_keeper_uses_the_standard_library_only() -> None:
    names = reached("keeper/__main__.py")
    ours = {*sys.stdlib_module_names, "agent"}
    wrong = {
        source.name: foreign
        for source in sources()
        if source.name in names
        and (foreign := {each for each in source.modules() if top(each) not in ours})
    }

    assert not wrong


def test_the_keepers_process_has_nothing_of_the_apis_side() -> None:
    names = reached("keeper/__main__.py")
    modules = {
        module
        for source in sources()
        if source.name in names
        for module in source.modules()
    }

    assert "keeper/core.py" in names
    assert "keeper/client.py" not in names
    assert "errors.py" not in names
    assert "asyncio" not in set(map(top, modules))


def test_modules_with_one_home_are_imported_there_only() -> None:
    wrong = {
        source.name: module
        for source in sources()
        for module in source.modules()
        if not source.name.startswith(ONLY_IN.get(top(module), ("",)))
    }

    assert not wrong


def test_heavy_modules_are_imported_by_their_first_use() -> None:
    wrong = {
        source.name: each.module
        for source in sources()
        for each in source.imports()
        if each.at_once and top(each.module) in LATE
    }

    assert not wrong
