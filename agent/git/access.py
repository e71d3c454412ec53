"""What a request to a remote may show there: given, stored or configured credentials."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from agent.errors import InvalidRequestError
from agent.git.credentials import (
    Credentials,
    Grant,
    Site,
    check_credentials,
    forms_of,
    split_user_info,
)
from agent.git.guards import Setting, refuse_detours
from agent.git.registry import Repositories
from agent.git.repository import Repository
from agent.git.runner import Options


@dataclass(frozen=True)
class Access:
    """The credentials of one request.

    Attributes:
        grant: What git may be given; None: what the user has configured is asked.
        secrets: What no message may hold.
    """

    grant: Grant | None = None
    secrets: tuple[str, ...] = field(default=(), repr=False)

    def options(
        self,
        *,
        ok: tuple[int, ...] = (0,),
        settings: Sequence[Setting] = (),
        stdin: bytes = b"",
        on_stderr: Callable[[bytes], None] | None = None,
    ) -> Options:
        """Return the options of a git that talks to the remote."""
        return Options(
            ok=ok,
            settings=settings,
            stdin=stdin,
            on_stderr=on_stderr,
            network=True,
            grant=self.grant,
            secrets=self.secrets,
        )


async def access_for(
    repositories: Repositories,
    urls: Iterable[str],
    given: Credentials | None,
    repository: Repository | None = None,
) -> Access:
    """Return what a request to these addresses may show there.

    What the request gives comes first, then what an address holds, then what
    `/git/credentials` was given. Credentials are for the hosts of the addresses as they
    are configured, and for no others.

    Raises:
        InvalidRequestError: The credentials cannot be sent.
        ConflictError: The repository's own configuration would lead them elsewhere.
    """
    addresses = list(urls)
    split = [split_user_info(url) for url in addresses]
    in_urls = [found for _, found in split if found is not None]
    secrets = [form for found in in_urls for form in forms_of(found)]
    sites = {site for url, _ in split if (site := Site.of(url)) is not None}
    found = given or (in_urls[0] if in_urls else None)
    if found is None and sites:
        found, sites = await _stored(repositories, sites)
    if repository is not None:
        refuse_detours(
            repository.configuration,
            [*addresses, *(url for url, _ in split)],
            with_credentials=found is not None,
        )
    if found is None or not sites:
        return Access(None, tuple(secrets))
    check_credentials(found.username, found.password)
    if not any(site.is_safe for site in sites):
        raise InvalidRequestError(
            "credentials are sent over https only, or over http to this machine"
        )
    return Access(Grant(found, frozenset(sites)), (*forms_of(found), *secrets))


async def _stored(
    repositories: Repositories, sites: set[Site]
) -> tuple[Credentials | None, set[Site]]:
    for site in sites:
        found = await repositories.store.get(site)
        if found is not None:
            return found, {site}
    return None, sites


def given_credentials(username: str | None, password: str | None) -> Credentials | None:
    """Return the credentials of a request: both of them, or none (contract 20 §0)."""
    if username is None or password is None:
        return None
    return Credentials(username, password)
