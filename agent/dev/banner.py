"""What the dev command prints once it serves: where, and lines to paste."""

import json
import shlex
from textwrap import dedent
from typing import NamedTuple

from agent.dev.previews.addresses import Addresses, name_of
from agent.dev.sandboxes import TARGET, origin
from agent.settings import Settings


class Key(NamedTuple):
    """How the token is come by, in words and in each language."""

    place: str
    python: str
    script: str
    shell: str


def banner(settings: Settings) -> str:
    """Return the text for an agent whose options are `settings`, real ports included.

    The token is never in it: what is pasted reads it from its file.
    """
    toolbox = origin(settings.host, settings.port)
    api = origin(settings.host, settings.dev_port) + "/api"
    previews = origin(settings.host, settings.preview_port)
    label = f"PORT-{name_of(settings.sandbox_id)}"
    named = Addresses(settings, named=True).named_url(label)
    key = _key(settings)
    return dedent(
        f"""
        toolbox-agent dev is ready
          toolbox        {toolbox}
          control plane  {api}  (a stand-in, for the SDKs)
          previews       {previews}  (in a browser {named})
          docs           {toolbox}/docs
          token          {key.place}

        Python (pip install daytona):
          from daytona import Daytona, DaytonaConfig
          {key.python}
          daytona = Daytona(DaytonaConfig(api_key=key, api_url="{api}", target="{TARGET}"))
          sandbox = daytona.create()
          print(sandbox.process.exec("uname -a").result)
          # the same lines serve the first SDK (pip install daytona==0.25.6)

        JavaScript (npm install @daytonaio/sdk):
          const {{ Daytona }} = require("@daytonaio/sdk"), {{ readFileSync }} = require("fs")
          const daytona = new Daytona({{ apiKey: {key.script}, apiUrl: "{api}", target: "{TARGET}" }})
          daytona.create().then((s) => s.process.executeCommand("uname -a")).then((r) => console.log(r.result))

        curl:
          curl -H "Authorization: Bearer {key.shell}" -d '{{"command":"uname -a"}}' {toolbox}/process/execute

        """
    )


def _key(settings: Settings) -> Key:
    if settings.no_auth or settings.trust_network:
        # The SDKs want some key all the same.
        return Key("none is asked for", 'key = "none"', '"none"', "none")
    file = settings.token_file
    if file:
        # JSON's quoting is that of both languages.
        quoted = json.dumps(file)
        return Key(
            file,
            f"key = open({quoted}).readline().strip()",
            f'readFileSync({quoted}, "utf8").split("\\n")[0]',
            f"$(head -n1 {shlex.quote(file)})",
        )
    return Key(
        "the one that was given",
        'import os; key = os.environ["TOOLBOX_TOKEN"]',
        "process.env.TOOLBOX_TOKEN",
        "$TOOLBOX_TOKEN",
    )
