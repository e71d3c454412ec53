"""`toolbox-agent healthcheck`: asks the agent of this machine whether it is well.

Standard library only, and small: an image's health check runs it every few seconds.
"""

import http.client
import sys

from agent.settings import Settings

LIMIT_S = 5.0
ANY_ADDRESS = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - read, not bound


def healthcheck(settings: Settings) -> int:
    """Return 0 when `/version` answers, else 1 with one line that says why."""
    host = ANY_ADDRESS.get(settings.host, settings.host)
    connection = http.client.HTTPConnection(host, settings.port, timeout=LIMIT_S)
    try:
        connection.request("GET", "/version")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        sys.stderr.write(
            f"toolbox-agent: no answer on {host}:{settings.port}: {error}\n"
        )
        return 1
    finally:
        connection.close()
    if status == http.client.OK:
        return 0
    sys.stderr.write(f"toolbox-agent: answered {status} on {host}:{settings.port}\n")
    return 1
