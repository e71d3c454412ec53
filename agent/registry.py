"""The keys under which the application holds what every subsystem may use."""

from aiohttp import web

from agent.files.watch.watches import Watches
from agent.keeper.client import Keeper
from agent.settings import Settings

SETTINGS = web.AppKey("settings", Settings)
"""The agent's options."""

WORK_DIR = web.AppKey("work_dir", str)
"""The absolute directory that relative paths resolve against."""

KEEPER = web.AppKey("keeper", Keeper)
"""The api's line to the keeper."""

WATCHES = web.AppKey("watches", Watches)
"""The owner of all watched trees."""
