"""What the keeper needs of the agent's options, read without the weight of `Settings`.

The whole of them goes through the keeper as the text that it is, to every api.
"""

import json


class Options:
    """The keeper's part of the options; names and units as in `agent/settings.py`.

    Args:
        settings: All options, as `Settings.to_json` wrote them.
        work_dir: The absolute directory that relative ones resolve against.
    """

    __slots__ = (
        "command_log_max_bytes",
        "dev_port",
        "entrypoint",
        "events_max_bytes",
        "grace_s",
        "host",
        "is_dev",
        "max_commands",
        "port",
        "preview_port",
        "settings",
        "state_dir",
        "work_dir",
    )

    def __init__(self, settings: bytes, work_dir: str) -> None:
        values = json.loads(settings)
        self.settings = settings
        self.work_dir = work_dir
        self.host: str = values["host"]
        self.port: int = values["port"]
        self.is_dev: bool = values["dev"]
        self.dev_port: int = values["dev_port"]
        self.preview_port: int = values["preview_port"]
        self.state_dir: str = values["state_dir"]
        self.grace_s: float = values["grace_s"]
        self.max_commands: int = values["max_commands"]
        self.command_log_max_bytes: int = values["command_log_max_bytes"]
        self.events_max_bytes: int = values["events_max_bytes"]
        self.entrypoint: list[str] = values["entrypoint"]
