"""The JSON-RPC side of one language server, carried by pygls on messages without types.

pygls keeps the requests under way, calls what answers the server's own requests, and
frames what is sent. Its typed layer is left out: it cannot read what some servers answer,
and a caller would wait for ever. What comes is cut by `framing`, which has bounds where
pygls reads a message of any length into memory.
"""

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Protocol

import msgspec

from agent.errors import AgentError, InvalidRequestError, TimeLimitError
from agent.lsp.child import Child
from agent.lsp.framing import Framer, FramingError
from agent.lsp.messages import (
    Message,
    UnreadableError,
    error_of,
    plain,
    read,
)

CANCEL = "$/cancelRequest"
METHOD_NOT_FOUND = -32601
REASON_LIMIT_S = 2.0
"""For the exit of a process that has closed its input."""

Answer = Callable[[object], object]
"""Takes the parameters of a server's request, returns what it is answered."""


class RefusedError(InvalidRequestError):
    """The server answered with an error.

    Args:
        message: The server's own words, on one line.
        number: The error's number in JSON-RPC.
    """

    def __init__(self, message: str, number: int) -> None:
        super().__init__(" ".join(message.split())[:1000] or f"error {number}")
        self.number = number


class Line(Protocol):
    """The part of pygls's protocol that is used."""

    def take(self, message: Message) -> None:
        """Hand over what the server has said."""

    def notify(self, method: str, params: object | None = None) -> None:
        """Send a notification."""

    def ask(self, method: str, params: object, number: str) -> "Future[msgspec.Raw]":
        """Send a request; the future has its raw result."""

    def forget(self, number: str) -> None:
        """Drop a request that nobody waits for."""

    def fail(self, error: Exception) -> None:
        """Let every request under way end with an error."""


def make_line(  # noqa: C901 - one class, whose base is imported late
    write: Callable[[bytes], None],
    answers: Mapping[str, Answer],
    told: Callable[[str, msgspec.Raw], None],
) -> Line:
    """Return a line to a server; the first call imports pygls, so it blocks.

    Args:
        write: Takes framed bytes.
        answers: What the server may ask, by method.
        told: Takes the server's notifications.
    """
    # Here, because pygls brings lsprotocol, whose import takes 400 ms.
    from pygls.protocol import (  # noqa: PLC0415
        JsonRPCNotification,
        JsonRPCProtocol,
        JsonRPCRequestMessage,
        JsonRPCResponseMessage,
        default_converter,
    )

    # It would log every message, documents and all.
    logging.getLogger("pygls").setLevel(logging.CRITICAL)

    class Error(msgspec.Struct):
        id: int | str
        error: object
        jsonrpc: str = JsonRPCProtocol.VERSION

    class Untyped(JsonRPCProtocol):
        def take(self, message: Message) -> None:
            method, number = message.method, message.id
            if isinstance(number, float):
                number = int(number)
            if method is not None and number is None:
                told(method, message.params)
            elif method is not None and number is not None:
                self._asked(number, method, message.params)
            elif number is not None:
                self._answered(str(number), message)

        def _asked(self, number: int | str, method: str, params: msgspec.Raw) -> None:
            answer = answers.get(method)
            if answer is None:
                refusal = {"code": METHOD_NOT_FOUND, "message": f"unknown: {method}"}
                self._send_data(Error(number, refusal))
                return
            self.handle_message(
                JsonRPCRequestMessage(
                    id=number, method=method, jsonrpc=self.VERSION, params=plain(params)
                )
            )

        def _answered(self, number: str, message: Message) -> None:
            if number not in self._request_futures:
                # Answered twice, or after its time was over.
                return
            if (error := error_of(message.error)) is None:
                self.handle_message(
                    JsonRPCResponseMessage(
                        id=number, jsonrpc=self.VERSION, result=message.result
                    )
                )
                return
            refused = RefusedError(error.message, int(error.code))
            self._request_futures.pop(number).set_exception(refused)

        def ask(self, method: str, params: object, number: str) -> Future[msgspec.Raw]:
            return self.send_request(method, params, msg_id=number)

        def forget(self, number: str) -> None:
            self._request_futures.pop(number, None)

        def fail(self, error: Exception) -> None:
            futures = list(self._request_futures.values())
            self._request_futures.clear()
            for future in futures:
                if not future.done():
                    future.set_exception(error)

        def _send_data(self, data: object) -> None:
            body: dict[str, object] = {"jsonrpc": self.VERSION}
            if isinstance(data, Error):
                body |= {"id": data.id, "error": data.error}
            elif isinstance(data, JsonRPCResponseMessage):
                body |= {"id": data.id, "result": data.result}
            elif isinstance(data, JsonRPCRequestMessage):
                body |= {"id": data.id, "method": data.method} | _given(data.params)
            elif isinstance(data, JsonRPCNotification):
                body |= {"method": data.method} | _given(data.params)
            else:
                # An error of its own making, typed.
                body |= {"id": getattr(data, "id", None)}
                body |= {"error": {"code": METHOD_NOT_FOUND, "message": "cannot"}}
            text = msgspec.json.encode(body)
            write(b"Content-Length: %d\r\n\r\n%s" % (len(text), text))

    converter = default_converter()  # type: ignore[no-untyped-call] # it has no types
    # It only calls what this one has.
    line = Untyped(_NoServer(), converter)  # type: ignore[arg-type]
    for name, answer in answers.items():
        line.fm.feature(name)(_handler(answer))
    return line


def _given(params: object) -> dict[str, object]:
    """Return the member `params`, which must not be there when there are none."""
    return {} if params is None else {"params": params}


def _handler(
    answer: Answer,
) -> Callable[[dict[str, object] | list[object] | None], object]:
    # A function of ours alone, because pygls marks what it registers. It would also hand
    # itself to a first parameter whose type it has, and everything is an `object`.
    def handle(params: dict[str, object] | list[object] | None) -> object:
        return answer(params)

    return handle


class _NoServer:
    """What pygls reports its own failures to."""

    def _report_server_error(self, error: Exception, source: type[Exception]) -> None:
        """Nobody is told: what failed was answered with an error."""


def _awaited(future: "Future[msgspec.Raw]") -> "asyncio.Future[msgspec.Raw]":
    """Return a future of the loop; all that ends pygls's happens in the loop's thread.

    `asyncio.wrap_future` would wake the loop through a pipe for each answer.
    """
    waiting: asyncio.Future[msgspec.Raw] = asyncio.get_running_loop().create_future()

    def done(ended: "Future[msgspec.Raw]") -> None:
        if waiting.done():
            return
        if (error := ended.exception()) is not None:
            waiting.set_exception(error)
        else:
            waiting.set_result(ended.result())

    future.add_done_callback(done)
    return waiting


class Client:
    """Asks one running server; `attach` gives it a process.

    Args:
        broken: Told when the server says what nobody can read.
    """

    def __init__(self, broken: Callable[[], None]) -> None:
        self.failure: AgentError | None = None
        """Why nothing can be asked any more."""
        self._broken = broken
        self._failed = asyncio.Event()
        self._child: Child | None = None
        self._line: Line | None = None
        self._early = bytearray()
        self._framer = Framer()
        self._numbers = itertools.count(1)

    def attach(self, child: Child) -> None:
        """Say which process it is."""
        self._child = child

    def speak(self, line: Line) -> None:
        """Say what carries the messages; those that came before are taken now."""
        self._line = line
        early = bytes(self._early)
        self._early.clear()
        self.received(early)

    @property
    def child(self) -> Child:
        """The process."""
        assert self._child is not None  # noqa: S101 - attached before it is used
        return self._child

    @property
    def line(self) -> Line:
        """What carries the messages."""
        assert self._line is not None  # noqa: S101 - as above
        return self._line

    def write(self, content: bytes) -> None:
        """Send framed bytes.

        Raises:
            BrokenPipeError: The server takes none.
        """
        self.child.write(content)

    def received(self, content: bytes) -> None:
        """Take bytes from the server's output."""
        if self.failure is not None:
            return
        if self._line is None:
            self._early += content
            return
        try:
            for body in self._framer.feed(content):
                self.line.take(read(body))
        except (FramingError, UnreadableError) as error:
            self.fail(AgentError(f"the language server is broken: {error}"))
            self._broken()
        except BrokenPipeError:
            # It asked something and does not take the answer: its exit is told soon.
            return

    def fail(self, error: AgentError) -> None:
        """Let everything under way fail, and all that comes."""
        if self.failure is None:
            self.failure = error
            self._failed.set()
            if self._line is not None:
                self._line.fail(error)

    async def notify(self, method: str, params: object | None = None) -> None:
        """Send a notification.

        Raises:
            AgentError: The server is gone.
        """
        self._check()
        try:
            self.line.notify(method, params)
        except BrokenPipeError as error:
            raise await self._reason(error) from error

    async def ask(
        self, method: str, params: object | None, limit_s: float
    ) -> msgspec.Raw:
        """Send a request and return its result as it came.

        When its time is over, or the caller is cancelled, the server is told to stop.

        Raises:
            RefusedError: The server answered with an error.
            TimeLimitError: It did not answer in time.
            AgentError: The server is gone.
        """
        self._check()
        number = f"agent-{next(self._numbers)}"
        try:
            future = self.line.ask(method, params, number)
        except BrokenPipeError as error:
            self.line.forget(number)
            raise await self._reason(error) from error
        try:
            async with asyncio.timeout(limit_s):
                await self.child.room()
                return await _awaited(future)
        except TimeoutError:
            self._cancel(number)
            raise TimeLimitError(
                f"the language server did not answer {method} within {limit_s:g} s"
            ) from None
        except asyncio.CancelledError:
            self._cancel(number)
            raise

    async def say_goodbye(self, shutdown_s: float, exit_s: float) -> None:
        """Ask the server to end by itself; returns also when it does not."""
        try:
            # Without parameters: TypeScript's own server refuses an empty object.
            await self.ask("shutdown", None, shutdown_s)
            await self.notify("exit")
        except AgentError:
            # It is asked by signals next.
            return
        self.child.close_input()
        await self.child.wait(exit_s)

    async def _reason(self, error: BrokenPipeError) -> AgentError:
        """Return why it takes nothing, which is known only once its exit is."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REASON_LIMIT_S):
                await self._failed.wait()
        return self.failure or AgentError(str(error))

    def _cancel(self, number: str) -> None:
        self.line.forget(number)
        with contextlib.suppress(BrokenPipeError):
            self.line.notify(CANCEL, {"id": number})

    def _check(self) -> None:
        if self.failure is not None:
            raise self.failure
