"""Answers what one api asks: one method for each operation of the protocol.

A request is `{"id": n, "op": "...", ...}`; its answer `{"re": n, "ok": true, ...}` or
`{"re": n, "error": {"kind", "message", "errno"}}`. What the keeper says unasked has `ev`.
"""

import os
import time
from collections.abc import Callable
from typing import Protocol

from agent.keeper import fields
from agent.keeper.errors import Refusal
from agent.keeper.events import Events, checked
from agent.keeper.frames import UNSEEN, FrameError, Header, Json, dump, load
from agent.keeper.job import Job
from agent.keeper.jobs import Jobs, terminal_size
from agent.keeper.link import Link
from agent.keeper.log import say
from agent.keeper.logs import Ring, Run, Spool
from agent.keeper.loop import Loop
from agent.keeper.segments import Place
from agent.keeper.sessions import PIECE_BYTES, Sessions, page
from agent.keeper.store import Store
from agent.keeper.subscription import Feeder

WINDOW_BYTES = 1024 * 1024
"""Under way to a follower that does not say."""

SUBSCRIPTIONS_MAX = 16384
"""Followers of one api; each is a line of bookkeeping here."""


class House(Protocol):
    """What the keeper as a whole knows and is told."""

    jobs: Jobs
    sessions: Sessions
    store: Store
    events: Events
    loop: Loop
    grace_s: float

    def statistics(self) -> Header:
        """Return the numbers of `stats`."""


class Desk:
    """Serves one api.

    Args:
        house: The keeper.
        on_ready: Called when the api says that it serves.
        on_drained: Called when it says that it has nothing under way any more.
    """

    def __init__(
        self,
        house: House,
        on_ready: Callable[[], None],
        on_drained: Callable[[], None],
    ) -> None:
        self._house = house
        self._jobs = house.jobs
        self._sessions = house.sessions
        self._store = house.store
        self._events = house.events
        self._on_ready = on_ready
        self._on_drained = on_drained
        self._link: Link | None = None
        self._feeder: Feeder | None = None
        self._operations: dict[str, Callable[[int, Header, bytes], None]] = {
            "ready": self._ready,
            "drained": self._drained,
            "pong": self._pong,
            "run": self._run,
            "result": self._result,
            "spawn": self._spawn,
            "info": self._info,
            "list": self._list,
            "wait": self._wait,
            "signal": self._signal,
            "end": self._end,
            "write": self._write,
            "eof": self._eof,
            "resize": self._resize,
            "forget": self._forget,
            "subscribe": self._subscribe,
            "credit": self._credit,
            "unsubscribe": self._unsubscribe,
            "env.set": self._environment_set,
            "env.get": self._environment_get,
            "kv.set": self._store_set,
            "kv.get": self._store_get,
            "kv.delete": self._store_delete,
            "kv.list": self._store_list,
            "stats": self._stats,
            "read": self._read,
            "session.create": self._session_create,
            "session.list": self._session_list,
            "session.info": self._session_info,
            "session.command": self._session_command,
            "session.exec": self._session_exec,
            "session.end": self._session_end,
            "event": self._event,
            "events.follow": self._events_follow,
            "events.read": self._events_read,
        }
        self.answered = time.monotonic()

    def open(self, link: Link) -> None:
        """Begin to serve over a line."""
        self._link = link
        self._feeder = Feeder(self._house.loop, link)

    def close(self) -> None:
        """Stop; what the api started goes on, what it was to be told is dropped."""
        self._events.follow(None)
        if self._feeder is not None:
            self._feeder.close()

    def room(self) -> None:
        """Hear that the line has room again."""
        if self._feeder is not None:
            self._feeder.wake()

    def handle(self, header: Header, payload: bytes) -> None:
        """Do what a frame asks for; whatever is wrong with it becomes its answer."""
        number = header.get("id")
        if not isinstance(number, int):
            number = 0
        try:
            name = fields.text(header, "op")
            operation = self._operations.get(name, _unknown)
            operation(number, header, payload)
        except Refusal as refusal:
            self._refuse(number, refusal)
        except OSError as error:
            self._refuse(number, Refusal("os", str(error), error.errno or 0))
        except Exception as error:  # noqa: BLE001 - an odd request must not be the keeper's end
            say("error", f"{header.get('op')!r} failed: {error!r}")
            self._refuse(number, Refusal("invalid", f"request failed: {error!r}"))

    # -- answers ------------------------------------------------------------------

    def _answer(
        self, number: int, header: Header, payload: bytes | memoryview = b""
    ) -> None:
        if self._link is None:
            return
        header["re"] = number
        header["ok"] = True
        try:
            self._link.send(header, payload)
        except FrameError as error:
            self._refuse(number, Refusal("full", f"answer too large: {error}"))

    def _refuse(self, number: int, refusal: Refusal) -> None:
        if self._link is not None:
            told: Json = {
                "kind": refusal.kind,
                "message": refusal.message,
                "errno": refusal.number,
            }
            self._link.send({"re": number, "error": told})

    # -- the api itself -----------------------------------------------------------

    def _ready(self, number: int, _header: Header, _payload: bytes) -> None:
        self._on_ready()
        self._answer(number, {})

    def _drained(self, number: int, _header: Header, _payload: bytes) -> None:
        self._answer(number, {})
        self._on_drained()

    def _pong(self, _number: int, _header: Header, _payload: bytes) -> None:
        self.answered = time.monotonic()

    def _stats(self, number: int, _header: Header, _payload: bytes) -> None:
        followers = len(self._feeder.all) if self._feeder is not None else 0
        statistics = self._house.statistics()
        self._answer(number, {**statistics, "subscriptions": followers})

    # -- jobs ---------------------------------------------------------------------

    def _run(self, number: int, header: Header, payload: bytes) -> None:
        def done(job: Job) -> None:
            self._answer_run(number, job)

        try:
            self._jobs.run(header, payload, done)
        except Refusal as refusal:
            if refusal.kind != "start-failed":
                raise
            self._answer(
                number,
                {
                    "exit_code": -1,
                    "reason": "start-failed",
                    "message": refusal.message,
                    "errno": refusal.number,
                },
            )

    def _result(self, number: int, header: Header, _payload: bytes) -> None:
        job = self._job(header)
        if not isinstance(job.output, Spool):
            raise Refusal("conflict", f"job {job.id} is not answered as a whole")
        if job.state == "finished":
            self._answer_run(number, job)
        else:
            job.waiting.append(lambda job: self._answer_run(number, job))

    def _answer_run(self, number: int, job: Job) -> None:
        spool = job.output
        assert isinstance(spool, Spool)  # noqa: S101 - `run` made it so
        if self._link is None or not self._link.open:
            if not job.held:
                self._jobs.forget(job.id)
            return
        record = job.exit_record()
        record["held"] = job.held
        record["job"] = job.id
        record["control_bytes"] = len(spool.control)
        if spool.in_memory is not None:
            self._answer(number, record, bytes(spool.control + spool.in_memory))
            if not job.held:
                self._jobs.forget(job.id)
            return
        record["spool"] = spool.path
        record["head_bytes"] = spool.head
        record["tail_bytes"] = spool.size - spool.head
        record["tail_start"] = spool.tail_start
        self._answer(number, record, bytes(spool.control))

    def _spawn(self, number: int, header: Header, payload: bytes) -> None:
        self._answer(number, {"job": self._jobs.spawn(header, payload).summary()})

    def _job(self, header: Header) -> Job:
        return self._jobs.get(fields.text(header, "job"))

    def _info(self, number: int, header: Header, _payload: bytes) -> None:
        self._answer(number, {"job": self._job(header).summary()})

    def _list(self, number: int, header: Header, _payload: bytes) -> None:
        kinds = fields.texts(header, "kinds")
        # As payload: a long list is more than a header may hold.
        summaries: list[Json] = [
            job.summary()
            for job in self._jobs.all()
            if (job.terms.kind in kinds if kinds else not job.is_past)
        ]
        self._answer(number, {}, dump({"jobs": summaries}))

    def _wait(self, number: int, header: Header, _payload: bytes) -> None:
        job = self._job(header)

        def done(job: Job) -> None:
            self._answer(number, {"exit": job.exit_record()})

        if job.state == "finished":
            done(job)
        else:
            job.waiting.append(done)

    def _signal(self, number: int, header: Header, _payload: bytes) -> None:
        job = self._job(header)
        job.signal(fields.whole(header, "signal"), group=fields.flag(header, "group"))
        self._answer(number, {})

    def _end(self, number: int, header: Header, _payload: bytes) -> None:
        job = self._job(header)
        grace_s = fields.seconds(header, "grace_s") or 0.0

        def done(left: int) -> None:
            self._answer(number, {"left": left})

        self._jobs.end(job, grace_s, done)

    def _write(self, number: int, header: Header, payload: bytes) -> None:
        self._job(header).write(payload)
        self._answer(number, {})

    def _eof(self, number: int, header: Header, _payload: bytes) -> None:
        self._job(header).end_input()
        self._answer(number, {})

    def _resize(self, number: int, header: Header, _payload: bytes) -> None:
        self._job(header).resize(*terminal_size(header))
        self._answer(number, {})

    def _forget(self, number: int, header: Header, _payload: bytes) -> None:
        self._jobs.forget(fields.text(header, "job"))
        self._answer(number, {})

    # -- sessions -----------------------------------------------------------------

    def _session_create(self, number: int, header: Header, _payload: bytes) -> None:
        self._answer(number, {"session": self._sessions.create(header).summary()})

    def _session_list(self, number: int, _header: Header, _payload: bytes) -> None:
        told: list[Json] = [each.summary() for each in self._sessions.all()]
        self._answer(number, {}, dump({"sessions": told}))

    def _session_info(self, number: int, header: Header, _payload: bytes) -> None:
        session = self._sessions.get(header)
        commands, following = page(session, max(0, fields.whole(header, "first", 0)))
        told: Header = {"commands": commands, "next": following}
        self._answer(number, {"session": session.summary()}, dump(told))

    def _session_command(self, number: int, header: Header, _payload: bytes) -> None:
        session = self._sessions.get(header)
        command = session.get(fields.text(header, "job"))
        facts: Header = {
            "job": command.summary(),
            "takes_input": command.takes_input,
        }
        self._answer(number, facts, session.text_of(command))

    def _session_exec(self, number: int, header: Header, payload: bytes) -> None:
        is_waited_for = fields.flag(header, "wait")
        command = self._sessions.run(header, payload)
        if not is_waited_for:
            self._answer(number, {"job": command.id})
            return

        def done(job: Job) -> None:
            self._answer_piece(number, job, 0, {"exit": job.exit_record()})

        command.waiting.append(done)

    def _session_end(self, number: int, header: Header, _payload: bytes) -> None:
        def done(left: int) -> None:
            self._answer(number, {"left": left})

        self._sessions.end(header, done)

    # -- followers ----------------------------------------------------------------

    def _subscribe(self, number: int, header: Header, _payload: bytes) -> None:
        job = self._job(header)
        output = job.output
        if self._feeder is None or isinstance(output, Spool):
            raise Refusal("conflict", f"job {job.id} is answered as a whole")
        if len(self._feeder.all) >= SUBSCRIPTIONS_MAX:
            raise Refusal("too-many", f"{SUBSCRIPTIONS_MAX} followers are there")
        subscription = fields.whole(header, "sub")
        if subscription in self._feeder.all:
            raise Refusal("conflict", f"subscription {subscription} exists")
        offset = fields.whole(header, "offset", 0)
        if offset == UNSEEN and isinstance(output, Ring):
            offset = max([output.seen, *(each.offset for each in job.readers)])
        elif offset < 0:
            offset = output.size
        if offset > output.size:
            raise Refusal("invalid", f"job {job.id} has only {output.size} bytes")
        offset = max(offset, output.first_offset)
        credit = max(1, fields.whole(header, "credit", WINDOW_BYTES))
        # Nothing is sent before the answer: a follower's first turn is the next one.
        reads = fields.flag(header, "reads")
        self._feeder.add(subscription, job, offset, credit, reads=reads)
        self._answer(number, {"offset": offset, "first_offset": output.first_offset})

    def _read(self, number: int, header: Header, _payload: bytes) -> None:
        job = self._job(header)
        self._answer_piece(number, job, max(0, fields.whole(header, "offset", 0)), {})

    def _answer_piece(self, number: int, job: Job, offset: int, facts: Header) -> None:
        """Answer with what is stored from an offset on, at most a piece of it."""
        output = job.output
        if isinstance(output, Spool):
            raise Refusal("conflict", f"job {job.id} is answered as a whole")
        offset = max(offset, output.first_offset)
        runs: list[Run] = []
        content: bytes | memoryview = b""
        if offset < output.size:
            record = output.locate(offset)
            runs, content, _ = output.read(offset, record, PIECE_BYTES)
        facts["runs"] = [[run.offset, run.stream, run.time, run.size] for run in runs]
        facts["size"] = output.size
        facts["dropped_bytes"] = output.dropped
        facts["closed"] = job.closed
        self._answer(number, facts, content)

    def _credit(self, _number: int, header: Header, _payload: bytes) -> None:
        if self._feeder is not None:
            size = max(0, fields.whole(header, "bytes"))
            self._feeder.grant(fields.whole(header, "sub"), size)

    def _unsubscribe(self, _number: int, header: Header, _payload: bytes) -> None:
        if self._feeder is not None:
            self._feeder.remove(fields.whole(header, "sub"))
        output = self._job(header).output
        if isinstance(output, Ring):
            output.saw(fields.whole(header, "offset", 0))

    # -- environment and store ----------------------------------------------------

    def _environment_set(self, number: int, _header: Header, payload: bytes) -> None:
        self._jobs.environment = fields.variables(load(payload), "env")
        self._answer(number, {})

    def _environment_get(self, number: int, _header: Header, _payload: bytes) -> None:
        told: Json = {
            os.fsdecode(name): os.fsdecode(value)
            for name, value in self._jobs.environment.items()
        }
        self._answer(number, {}, dump({"env": told}))

    def _store_set(self, number: int, header: Header, payload: bytes) -> None:
        self._store.set(fields.text(header, "name"), payload)
        self._answer(number, {})

    def _store_get(self, number: int, header: Header, _payload: bytes) -> None:
        self._answer(number, {}, self._store.get(fields.text(header, "name")))

    def _store_delete(self, number: int, header: Header, _payload: bytes) -> None:
        self._store.delete(fields.text(header, "name"))
        self._answer(number, {})

    def _store_list(self, number: int, _header: Header, _payload: bytes) -> None:
        names: list[Json] = list(self._store.names())
        self._answer(number, {}, dump({"names": names}))

    # -- the timeline -------------------------------------------------------------

    def _event(self, _number: int, header: Header, _payload: bytes) -> None:
        kind = fields.text(header, "type")
        self._events.tell(kind, checked(kind, header.get("facts")))

    def _events_follow(self, number: int, header: Header, _payload: bytes) -> None:
        is_wanted = fields.flag(header, "on")
        newest = self._events.follow(self._happened if is_wanted else None)
        self._answer(number, {"newest": newest, "oldest": self._events.oldest})

    def _happened(self, first: int, last: int, lines: bytes) -> None:
        """Pass on events; to an api that is behind only their numbers."""
        if self._link is not None:
            payload = b"" if self._link.crowded else lines
            self._link.send({"ev": "events", "first": first, "last": last}, payload)

    def _events_read(self, number: int, header: Header, _payload: bytes) -> None:
        place = None
        if header.get("first") is not None:
            place = Place(fields.whole(header, "first"), fields.whole(header, "offset"))
        block = self._events.read(fields.whole(header, "since"), place)
        told: Header = {
            "newest": self._events.newest,
            "oldest": self._events.oldest,
            "first": block.place.first,
            "offset": block.place.offset,
            "more": block.more,
        }
        self._answer(number, told, block.content)


def _unknown(_number: int, header: Header, _payload: bytes) -> None:
    raise Refusal("invalid", f"no such operation: {header.get('op')!r}")
