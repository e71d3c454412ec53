"""Git's own store of credentials, a file in plain text, for those who ask for it."""

from agent.git.credentials import Credentials, Site, forms_of
from agent.git.registry import Repositories
from agent.git.runner import Options
from agent.git.settings_files import set_values


async def keep_in_plain_text(
    repositories: Repositories, site: Site, credentials: Credentials
) -> None:
    """Make the store the user's helper, and put credentials there (man git-credential-store).

    Raises:
        AgentError: The configuration, or the file, cannot be written.
    """
    await set_values(repositories, {"credential.helper": "store"}, "global", None)
    words = (
        f"protocol={site.protocol}\nhost={site.host}\n"
        f"username={credentials.username}\npassword={credentials.password}\n\n"
    )
    # Of the store alone: other helpers would keep them as well.
    await repositories.runner.run(
        ("credential-store", "store"),
        options=Options(
            stdin=words.encode(), writes=True, secrets=tuple(forms_of(credentials))
        ),
    )
