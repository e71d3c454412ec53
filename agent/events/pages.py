"""Events that have happened, a page at a time."""

from agent import wire
from agent.events.choice import Choice
from agent.events.timeline import Entry, Journal, Timeline

PAGE_MAX_BYTES = 4 * 1024 * 1024
"""Of one answer, however many events were asked for."""


async def page(
    timeline: Timeline, choice: Choice, since: int | None, limit: int
) -> bytes:
    """Return a page of what has happened, as the JSON of an `EventPage`.

    Args:
        timeline: What happened.
        choice: What the client wants to hear of.
        since: The last number that it has; None: from the oldest on.
        limit: The most events that it wants.
    """
    first = await timeline.kept.read(since or 0)
    start = first.there.oldest - 1 if since is None else since
    if start > first.there.newest:
        # A number of another journal, which somebody removed: all there is is new.
        start = first.there.oldest - 1
    return await _Page(Journal(timeline.kept, start), choice, limit).read()


class _Page:
    def __init__(self, journal: Journal, choice: Choice, limit: int) -> None:
        self._journal = journal
        self._choice = choice
        self._limit = limit
        self._next = journal.number
        self._texts: list[bytes] = []
        self._size = 0
        self._lost = 0

    async def read(self) -> bytes:
        more = False
        while self._journal.more and not more:
            more = self._take(await self._journal.read())
        there = self._journal.there
        facts = {
            "next": self._next,
            "more": more,
            "lost": self._lost,
            "oldest": there.oldest,
            "newest": there.newest,
        }
        # Spliced: what the keeper has encoded is not decoded and encoded again.
        return b'{"events":[%s],%s' % (b",".join(self._texts), wire.encode(facts)[1:])

    def _take(self, found: list[Entry]) -> bool:
        """Add what fits; tell whether something did not."""
        for each in found:
            if not self._choice.takes(each.kind):
                self._pass(each)
                continue
            is_full = len(self._texts) >= self._limit
            if is_full or self._size + len(each.text) > PAGE_MAX_BYTES:
                return True
            self._texts.append(each.text)
            self._size += len(each.text)
            self._pass(each)
        return False

    def _pass(self, entry: Entry) -> None:
        self._lost += entry.number - self._next - 1
        self._next = entry.number
