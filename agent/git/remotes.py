"""Remotes: which there are, and exchanging commits with them."""

from agent import wire
from agent.errors import ConflictError, NotFoundError
from agent.git.access import access_for
from agent.git.credentials import (
    Credentials,
    Site,
    check_credentials,
    split_user_info,
)
from agent.git.models import Remote, Remotes
from agent.git.refs import check_branch, check_remote, check_url
from agent.git.registry import Change, Repositories
from agent.git.repository import Repository

FETCH = (
    "fetch",
    "--progress",
    "--no-recurse-submodules",
    "--upload-pack=git-upload-pack",
)


async def remotes(repositories: Repositories, path: str) -> Remotes:
    """Return the remotes, sorted by name, without the passwords in their addresses.

    Raises:
        AgentError: There is no repository there.
    """
    repository = await repositories.find(path)
    return Remotes(
        remotes=[
            Remote(
                name=wire.printable(name), url=wire.printable(split_user_info(url)[0])
            )
            for name, url in sorted(repository.configuration.remotes().items())
        ]
    )


async def add_remote(
    repositories: Repositories,
    path: str,
    remote: Remote,
    *,
    overwrite: bool,
    fetch: bool,
) -> None:
    """Add a remote, in place of one of that name if asked to; fetch from it if asked to.

    A password in the address is kept in memory, as `/git/credentials` does it, and not
    in the configuration.

    Raises:
        ConflictError: There is one of that name.
        AgentError: The fetch failed; the remote stays.
    """
    repository = await repositories.find(path)
    name, url = check_remote(remote.name), check_url(remote.url)
    bare_url, in_url = split_user_info(url)
    site = Site.of(bare_url)
    exists = any(
        each.section == "remote" and each.subsection == name
        for each in repository.configuration.entries
    )
    if exists and not overwrite:
        raise ConflictError(f"remote '{name}' exists already")
    async with repositories.changing(repository) as change:
        if exists:
            await change.run("remote", "remove", name)
        await change.run("remote", "add", "--", name, bare_url)
    if in_url is not None and site is not None:
        check_credentials(in_url.username, in_url.password)
        await repositories.store.put(site, in_url)
    if fetch:
        await fetch_all(repositories, path, name)


async def fetch_all(repositories: Repositories, path: str, name: str) -> None:
    """Fetch what a remote's configuration says.

    Raises:
        AgentError: It failed; the kind says why.
    """
    repository = await repositories.find(path)
    access = await access_for(repositories, urls_of(repository, name), None, repository)
    async with repositories.changing(repository) as change:
        await change.run(*FETCH, "--", name, options=access.options())


async def pull(
    repositories: Repositories,
    path: str,
    credentials: Credentials | None,
    remote: str,
    branch: str,
) -> None:
    """Bring the current branch forward to a remote's; never merge, never rebase.

    Args:
        repositories: The owner.
        path: The root.
        credentials: For the remote.
        remote: Which; empty: that which the branch follows, or `origin`.
        branch: The remote's; empty: that which the branch follows, or its namesake.

    Raises:
        AgentError: Histories have diverged, local changes are in the way, there is no
            such branch, or the remote cannot be used; nothing has changed.
    """
    repository = await repositories.find_with_files(path)
    current = await repositories.head_branch(repository)
    if current is None:
        raise NotFoundError("HEAD is detached; check out a branch first")
    remote, branch = _upstream(repository, current, remote, branch)
    access = await access_for(
        repositories, urls_of(repository, remote), credentials, repository
    )
    async with repositories.changing(repository) as change:
        fetch = (*FETCH, "--", remote, f"refs/heads/{check_branch(branch)}")
        await change.run(*fetch, options=access.options())
        await _forward(change)


async def _forward(change: Change) -> None:
    await change.run(
        *("merge", "--ff-only", "--no-autostash", "--no-stat", "--quiet"),
        *("--no-verify-signatures", "--no-gpg-sign", "FETCH_HEAD"),
    )


def _upstream(
    repository: Repository, current: str, remote: str, branch: str
) -> tuple[str, str]:
    configuration = repository.configuration
    its_remote = configuration.last(f"branch.{current}.remote") or ""
    merge = configuration.last(f"branch.{current}.merge") or ""
    if not remote:
        followed = its_remote in configuration.remotes() and not branch
        remote = its_remote if followed else "origin"
    if not branch:
        followed = remote == its_remote and merge.startswith("refs/heads/")
        branch = merge.removeprefix("refs/heads/") if followed else current
    return check_remote(remote), branch


async def push(
    repositories: Repositories,
    path: str,
    credentials: Credentials | None,
    remote: str,
    branch: str,
    set_upstream: bool,
) -> None:
    """Push a branch to its namesake on a remote; never by force.

    Raises:
        AgentError: The remote has commits that the branch has not, refuses, or cannot be
            used; or there is no such branch.
    """
    repository = await repositories.find(path)
    branch = branch or await repositories.head_branch(repository) or ""
    if not branch:
        raise NotFoundError("HEAD is detached; name the branch to push")
    ref = f"refs/heads/{check_branch(branch)}"
    remote = check_remote(remote or "origin")
    access = await access_for(
        repositories,
        urls_of(repository, remote, pushing=True),
        credentials,
        repository,
    )
    words = ["push", "--porcelain", "--progress", "--no-verify", "--no-signed"]
    words += ["--no-follow-tags", "--recurse-submodules=no"]
    words += ["--receive-pack=git-receive-pack"]
    words += ["--set-upstream"] if set_upstream else []
    async with repositories.changing(repository) as change:
        await change.run(
            *(*words, "--", remote, f"{ref}:{ref}"), options=access.options()
        )


def urls_of(repository: Repository, remote: str, *, pushing: bool = False) -> list[str]:
    """Return the addresses that a request to a remote goes to.

    Raises:
        NotFoundError: There is no such remote.
        InvalidRequestError: It has an address that git must not be given.
    """
    configuration = repository.configuration
    urls = configuration.values(f"remote.{remote}.url")
    if not urls:
        raise NotFoundError(f"remote '{remote}' not found")
    if pushing:
        urls = configuration.values(f"remote.{remote}.pushurl") or urls
    else:
        urls = urls[:1]
    for url in urls:
        check_url(url)
    return urls
