"""A context's worker: a job of the keeper, asked to run one piece of code at a time.

It is followed only while a run goes on. What the code's threads and children write between
two runs is thus for nobody, and is dropped by the keeper without getting here.
"""

import asyncio
import contextlib
import secrets
import signal
from collections.abc import Awaitable, Callable

from agent.errors import ConflictError, NotFoundError
from agent.interpreter.languages import Asked, Language
from agent.interpreter.merging import BrokenError, Merger, Text
from agent.interpreter.models import Word
from agent.keeper.client import Exit, Job, Keeper, Spec, StartError, Subscription

KIND = "context"
"""What the jobs of workers are called."""

MARK_BYTES = 16

Tell = Callable[[Text | Word], Awaitable[None]]


class DiedError(Exception):
    """The worker ended before its run did.

    Args:
        how: How it ended.
        begun: Whether the run may have begun.
    """

    def __init__(self, how: Exit, *, begun: bool) -> None:
        self.how = how
        self.begun = begun
        if how.signal:
            with contextlib.suppress(ValueError):
                name = signal.Signals(how.signal).name
                super().__init__(f"killed by signal {how.signal} ({name})")
                return
            super().__init__(f"killed by signal {how.signal}")
            return
        super().__init__(f"exit code {how.exit_code}")


class Worker:
    """One worker.

    Args:
        keeper: Whose job it is.
        language: What it runs.
        job: The job.
    """

    def __init__(self, keeper: Keeper, language: Language, job: Job) -> None:
        self._keeper = keeper
        self._language = language
        self.job = job
        self._begun = False
        self._exit = asyncio.ensure_future(keeper.wait(job.id))

    @classmethod
    async def start(
        cls, keeper: Keeper, language: Language, cwd: str, label: str, name: str
    ) -> "Worker":
        """Start one; it may not be ready yet, which a run waits for.

        Raises:
            StartError: There is no such directory, or no program for the language.
        """
        missing: StartError | None = None
        for program in language.programs:
            spec = Spec(
                argv=[program, *language.arguments],
                cwd=cwd,
                output="split",
                stdin="pipe",
                control=True,
                live=True,
                kind=KIND,
                label=label,
                told={"context": name},
            )
            try:
                return cls(keeper, language, await keeper.spawn(spec))
            except StartError as error:
                if not error.message.startswith("exec "):
                    raise
                missing = missing or error
        assert missing is not None  # noqa: S101 - every language has a program
        raise missing

    @property
    def alive(self) -> bool:
        """Whether it has not ended, as far as is known."""
        return not self._exit.done()

    async def aclose(self) -> None:
        """Stop watching it; the job is untouched."""
        self._exit.cancel()
        await asyncio.gather(self._exit, return_exceptions=True)

    async def run(self, asked: Asked, tell: Tell) -> Word:
        """Run code; tell of what comes of it, and return the last word on it.

        Raises:
            DiedError: The worker ended; all that it wrote was told.
            BrokenError: It does not answer as a worker does.
            InvalidRequestError: Its language cannot be given such code.
            TooLargeError: As above.
        """
        frames = self._language.frames(asked)
        merger = Merger(asked.mark.encode())
        async with self._keeper.subscribe(self.job.id, -1) as output:

            def ended(task: asyncio.Task[Exit]) -> None:
                if not task.cancelled() and task.exception() is None:
                    # Not the end of its pipes: a child may hold those for ever.
                    output.stop_at(task.result().output_bytes)

            self._exit.add_done_callback(ended)
            try:
                word = await self._follow(output, frames, merger, tell)
            finally:
                self._exit.remove_done_callback(ended)
        if word is not None:
            return word
        for text in merger.end():
            await tell(text)
        raise DiedError(await asyncio.shield(self._exit), begun=self._begun)

    async def _follow(
        self, output: Subscription, frames: list[bytes], merger: Merger, tell: Tell
    ) -> Word | None:
        """Ask, and tell what comes; return the last word, or None at the worker's end."""
        self._begun = False
        await self._write(frames.pop(0))
        async for chunk in output:
            for event in merger.feed(chunk):
                if isinstance(event, Text):
                    await tell(event)
                elif event.type == "done":
                    return event
                elif event.type == "begun":
                    self._begun = True
                elif event.type != "more":
                    await tell(event)
                elif frames:
                    await self._write(frames.pop(0))
        return None

    async def _write(self, frame: bytes) -> None:
        # When it takes no input it has ended, which the output is about to tell.
        with contextlib.suppress(ConflictError):
            await self._keeper.write(self.job.id, frame)

    async def interrupt(self) -> None:
        """Send SIGINT to it and to what it has started in its group."""
        with contextlib.suppress(ConflictError, NotFoundError):
            await self._keeper.signal(self.job.id, signal.SIGINT)

    async def end(self, grace_s: float) -> None:
        """End it and everything that came of it."""
        with contextlib.suppress(NotFoundError):
            await self._keeper.end(self.job.id, grace_s)

    async def forget(self) -> None:
        """Have the keeper forget it, once it has ended."""
        with contextlib.suppress(ConflictError):
            await self._keeper.wait(self.job.id)
            await self._keeper.forget(self.job.id)


def new_mark() -> str:
    """Return a word that no output has by chance."""
    return f"\x1e{secrets.token_hex(MARK_BYTES)}\x1e"


__all__ = ["BrokenError", "DiedError", "Tell", "Worker", "new_mark"]
