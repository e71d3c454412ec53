"""What every language server stands on."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from agent.errors import InvalidRequestError
from agent.files.threads import Threads
from agent.keeper.client import Tell
from agent.lsp.configuration import Configuration
from agent.lsp.places import Project

NOT_INITIALIZED = "LSP_SERVER_NOT_INITIALIZED"


@dataclass(frozen=True, kw_only=True)
class Ground:
    """What every server is started with.

    Attributes:
        threads: For what blocks.
        environment: Returns the environment of new processes.
        tell: Tells the timeline what happened.
        configuration: The user's own word.
    """

    threads: Threads
    environment: Callable[[], Awaitable[dict[str, str]]]
    tell: Tell
    configuration: Configuration


def not_initialized(language: str, project: Project) -> InvalidRequestError:
    """Return the failure of a question to a server that nobody started."""
    return InvalidRequestError(
        f"no {language} language server is started for {project.path}",
        code=NOT_INITIALIZED,
    )
