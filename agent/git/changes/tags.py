"""Tags: which there are, making and deleting one."""

from agent.errors import InvalidRequestError, NotFoundError
from agent.git.changes.conflicts import ONLY_CONFIGURED, committing
from agent.git.changes.models import Tag, TagList, TagNameRequest, TagRequest
from agent.git.refs import check_revision, is_ref_name
from agent.git.registry import Repositories
from agent.git.runner import Options
from agent.wire import UNSET

FIELDS = (
    "refname:strip=2",
    "objectname",
    "*objectname",
    "objecttype",
    "taggername",
    "taggeremail:trim",
    "taggerdate:iso-strict",
    "contents",
)
FORMAT = "".join(f"%({field})%00" for field in FIELDS)


async def tags(repositories: Repositories, path: str) -> TagList:
    """Return the tags, sorted by name.

    Raises:
        AgentError: There is no repository there.
    """
    repository = await repositories.find(path)
    output = await repositories.read(
        *(repository, "for-each-ref", f"--format={FORMAT}", "refs/tags/")
    )
    words = output.stdout.decode("utf-8", "replace").split("\0")
    count = len(FIELDS)
    return TagList(
        tags=[_tag(words[at : at + count]) for at in range(0, len(words) - 1, count)]
    )


def _tag(words: list[str]) -> Tag:
    name, own, target, kind, tagger, email, moment, message = words
    # Behind each tag git prints a line end, which the next one begins with.
    name = name.removeprefix("\n")
    if kind != "tag":
        return Tag(name=name, hash=own, annotated=False)
    return Tag(
        name=name,
        hash=target,
        annotated=True,
        message=message,
        tagger=tagger or UNSET,
        email=email or UNSET,
        timestamp=moment or UNSET,
    )


async def create_tag(repositories: Repositories, wanted: TagRequest) -> None:
    """Make a tag; with a message it is annotated.

    Raises:
        InvalidRequestError: No tag can be called so.
        NotFoundError: The revision is unknown.
        ConflictError: There is one of that name.
    """
    name = _check_name(wanted.name)
    repository = await repositories.find(wanted.path)
    variables = committing(wanted, as_author=False)
    async with repositories.changing(repository) as change:
        target = await repositories.resolve(repository, check_revision(wanted.revision))
        if target is None:
            raise NotFoundError(f"revision not found: {wanted.revision}")
        words = ["tag", "--no-sign", *(["--force"] if wanted.force else [])]
        options = Options(variables=variables, settings=ONLY_CONFIGURED)
        if wanted.message is not None:
            if "\0" in wanted.message:
                raise InvalidRequestError("the message contains a NUL character")
            words += ["--annotate", "--cleanup=verbatim", "--file=-"]
            options = Options(
                variables=variables,
                settings=ONLY_CONFIGURED,
                stdin=wanted.message.encode() or b"\n",
            )
        await change.run(*words, "--", name, target, options=options)


async def delete_tag(repositories: Repositories, wanted: TagNameRequest) -> None:
    """Delete a tag.

    Raises:
        NotFoundError: There is none of that name.
    """
    name = _check_name(wanted.name)
    repository = await repositories.find(wanted.path)
    async with repositories.changing(repository) as change:
        ref = f"refs/tags/{name}"
        if await repositories.resolve(repository, ref) is None:
            raise NotFoundError(f"tag '{name}' not found")
        await change.run("update-ref", "--no-deref", "-d", ref)


def _check_name(name: str) -> str:
    if not is_ref_name(name):
        raise InvalidRequestError(f"invalid tag name: '{name}'")
    return name
