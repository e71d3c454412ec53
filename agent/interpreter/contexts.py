"""All contexts of the agent, those that an earlier api has made among them."""

import asyncio
import posixpath
import uuid
from datetime import UTC, datetime

import msgspec

from agent.errors import InvalidRequestError, NotFoundError, TooManyError
from agent.interpreter.context import Context, Facts
from agent.interpreter.languages import language_of
from agent.interpreter.worker import KIND
from agent.keeper.client import Keeper

DEFAULT = "default"
"""The context that is meant when none is named."""

CONTEXTS_MAX = 256
"""More at once are refused; each is a process."""


class Contexts:
    """The owner of all contexts.

    Args:
        keeper: Who has the workers.
        work_dir: The absolute directory that relative ones resolve against.
    """

    def __init__(self, keeper: Keeper, work_dir: str) -> None:
        self._keeper = keeper
        self._work_dir = work_dir
        self._contexts: dict[str, Context] = {}
        self._making = asyncio.Lock()

    async def open(self) -> None:
        """Find what earlier apis have made."""
        jobs = await self._keeper.list(KIND)
        for job in jobs:
            facts = msgspec.json.decode(job.label, type=Facts)
            context = self._contexts.setdefault(facts.id, Context(self._keeper, facts))
            context.adopt(job)
        # As they were made, not as their workers were started.
        ordered = sorted(
            self._contexts.values(), key=lambda each: each.facts.created_at
        )
        self._contexts = {each.facts.id: each for each in ordered}
        await asyncio.gather(*(each.settle() for each in ordered))

    async def aclose(self) -> None:
        """Leave all of them to the next api."""
        await asyncio.gather(*(each.aclose() for each in self._contexts.values()))

    async def create(self, cwd: str, language: str) -> Context:
        """Make a context, whose worker is started at once.

        Args:
            cwd: Its directory; empty is the work dir.
            language: `python`, `javascript`, `typescript` or `bash`.

        Raises:
            InvalidRequestError: No such language.
            TooManyError: There are as many as allowed.
            StartError: The worker cannot be started; says why.
        """
        if len(self._contexts) >= CONTEXTS_MAX:
            raise TooManyError(f"{CONTEXTS_MAX} contexts exist")
        return await self._make(str(uuid.uuid4()), cwd, language)

    async def _make(self, context_id: str, cwd: str, language: str) -> Context:
        facts = Facts(
            id=context_id,
            cwd=posixpath.normpath(posixpath.join(self._work_dir, cwd)),
            language=language_of(language).name,
            created_at=datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        )
        context = Context(self._keeper, facts)
        await context.start()
        self._contexts[context_id] = context
        return context

    async def get(self, context_id: str) -> Context:
        """Return a context; the default one is made when it is asked for.

        Raises:
            NotFoundError: There is none of that name.
            StartError: The default one's worker cannot be started; says why.
        """
        name = context_id or DEFAULT
        if name == DEFAULT:
            async with self._making:
                if name not in self._contexts:
                    await self._make(DEFAULT, "", "python")
        if name not in self._contexts:
            raise NotFoundError(f"context not found: {name}", code="PROCESS_NOT_FOUND")
        return self._contexts[name]

    def all(self) -> list[Context]:
        """Return the contexts, oldest first, without the default one."""
        return [each for name, each in self._contexts.items() if name != DEFAULT]

    async def delete(self, context_id: str) -> None:
        """End a context.

        Raises:
            InvalidRequestError: It is the default one.
            NotFoundError: There is none of that name.
        """
        if context_id == DEFAULT:
            raise InvalidRequestError("cannot delete default context")
        context = self._contexts.pop(context_id, None)
        if context is None:
            raise NotFoundError(
                f"context not found: {context_id}", code="PROCESS_NOT_FOUND"
            )
        await context.delete()
