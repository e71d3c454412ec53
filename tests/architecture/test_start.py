"""What the two processes of a real agent load by the time they serve."""

import re
import sys

from tests.support.agent import StartAgent

HEAVY = {
    "cattrs",
    "git",
    "gitdb",
    "lsprotocol",
    "multiprocessing",
    "opentelemetry",
    "prometheus_client",
    "psutil",
    "pydantic",
    "pygls",
    "python_multipart",
    "requests",
    "tarfile",
    "unittest",
    "watchfiles",
    "zipfile",
    # `ssl` itself is asked for in vain by who can do without it; this is its heavy half.
    "_ssl",
}
NOT_IN_THE_KEEPER = HEAVY | {"aiohttp", "asyncio", "msgspec", "ssl", "subprocess"}

START = "import sys; sys.argv[0] = 'toolbox-agent'; from agent.__main__ import main\n"
SHOWING_API = [
    sys.executable,
    "-c",
    START + "import agent.keeper.early as early\n"
    "words = early.api_argv()\n"
    "early.api_argv = lambda: [words[0], '-X', 'importtime', *words[1:]]\n"
    "sys.exit(main())",
]
"""The agent, with Python's own account of imports switched on in its api."""

SHOWING_KEEPER = [
    sys.executable,
    "-c",
    START + "import agent.command as command\n"
    "command.interpreter_flags = lambda: ['-I', '-X', 'importtime']\n"
    "sys.exit(main())",
]


def loaded(log: str) -> set[str]:
    """Return the modules in Python's account of imports."""
    return set(re.findall(r"^import time: +\d+ \| +\d+ \| +(\S+)$", log, re.MULTILINE))


# Unmeasured, because coverage loads a good part of what is looked for.


def test_the_api_serves_without_heavy_modules(start_agent: StartAgent) -> None:
    agent = start_agent(program=SHOWING_API, measured=False)

    assert agent.request("GET", "/version").status == 200
    assert agent.request("GET", "/work-dir").status == 200
    agent.stop()

    modules = loaded(agent.log())
    assert "agent.app" in modules
    assert not {module.split(".")[0] for module in modules} & HEAVY
    assert not [module for module in modules if module.startswith("agent.dev")]
    assert "aiohttp.client" not in modules
    assert "backports.zstd._zstd" not in modules


def test_the_keeper_loads_little(start_agent: StartAgent) -> None:
    agent = start_agent(program=SHOWING_KEEPER, measured=False)

    assert agent.request("GET", "/version").status == 200
    agent.stop()

    modules = loaded(agent.log())
    assert "agent.keeper.main" in modules
    assert not {module.split(".")[0] for module in modules} & NOT_IN_THE_KEEPER
