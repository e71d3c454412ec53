"""Runs pieces of code one after the other in one namespace: a Python context's worker.

    python3 python_worker.py

The sandbox's own Python runs this, of any version from 3.8 on and with nothing but its
standard library. What it says to the agent, and hears from it, goes by descriptors that
the code does not see: they are moved to high numbers before the first piece is run, and
neither children nor whoever replaces this process inherits them.

    requests   <- what was descriptor 0: sized (4 bytes) lists of sized words
    control    -> what was descriptor 3: one JSON object a line
    output     -> 1 and 2, as the code and its children write them

Between output and control messages the order is kept by marks: before each message of a
run, the run's mark, a random word that the agent made up, goes down both outputs. So the
reader knows what was written before the message and what after, whoever wrote it and
however it was redirected meanwhile.

A request names its run and has code; longer code comes in parts before. A part that is
taken is answered by `more`, so that what waits in the pipe has a bound, and the whole by
`begun`: a worker that ends before that has not run the code.
"""

# Nothing but what is built in: the start of a context is mostly that of the interpreter,
# and `json`, `signal` and `traceback` would double it.

import fcntl
import io
import os
import sys
from _signal import SIGINT, getsignal, signal  # type: ignore[import-not-found] # without enums
from _thread import RLock

try:
    from _json import encode_basestring_ascii as quoted
except ImportError:
    from json.encoder import encode_basestring_ascii as quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType, FrameType, ModuleType
    from typing import Any, Callable, Dict, List, Optional, Sequence

    Environment = Dict[str, Optional[str]]
    Record = Dict[str, Any]

CONTROL = 3
HIGH_DESCRIPTORS = (1000, 250, 60)
"""Where our own are moved: the first that the limit on descriptors allows."""

SHOWN_NAME = "<stdin>"
CODE_NAME = "<string>"

VALUE_MAX = 8 * 1024
TRACEBACK_MAX = 20 * 1024
"""Characters told of an exception; of longer ones the beginning and the end."""

SOURCE_MAX = 64 * 1024
SOURCES_MAX = 1000
"""Functions and other pieces of code whose source lines are shown in tracebacks."""

CAUSE = "\nThe above exception was the direct cause of the following exception:\n\n"
CONTEXT = "\nDuring handling of the above exception, another exception occurred:\n\n"
"""The interpreter's own words."""

LOST_DESCRIPTORS = 71
"""Our exit code when the code has closed what we talk through (sysexits.h, EX_OSERR)."""

PyCF_ALLOW_TOP_LEVEL_AWAIT = 0x2000
CO_COROUTINE = 0x80


class LostError(Exception):
    """The code has closed our descriptors."""


class Pipe:
    """One of our descriptors, out of the code's way.

    Args:
        fd: Where it is now.
    """

    def __init__(self, fd: int) -> None:
        self.fd = -1
        for number in HIGH_DESCRIPTORS:
            try:
                self.fd = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, number)
                break
            except OSError:
                continue
        self._file = file_of(self.fd)

    def check(self) -> None:
        """See that it still is what it was.

        Raises:
            LostError: It was closed, or its number belongs to another file now.
        """
        if file_of(self.fd) != self._file:
            raise LostError

    def write(self, text: bytes) -> None:
        """Write all of it.

        Raises:
            LostError: See `check`.
        """
        self.check()
        try:
            write_all(self.fd, text)
        except OSError:
            raise LostError from None

    def put_back(self, fd: int) -> None:
        """Make `fd` what it was in the beginning, if it is not."""
        self.check()
        if file_of(fd) != self._file:
            os.dup2(self.fd, fd)


def file_of(fd: int) -> "tuple[int, int] | None":
    """Return what tells a descriptor's file from others, or None when it is closed."""
    try:
        status = os.fstat(fd)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def write_all(fd: int, content: "bytes | memoryview") -> None:
    """Write all of it, also to a pipe that somebody made non-blocking."""
    view = memoryview(content)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:  # noqa: PERF203 - the next piece is another try
            import select  # noqa: PLC0415 - hardly ever needed

            waiting = select.poll()
            waiting.register(fd, select.POLLOUT)
            waiting.poll()


class Output(io.FileIO):
    """Standard output or error, never buffered: a child that is forked inherits nothing."""

    def write(self, content: "Any") -> int:
        """Write all of it, which the text layer above counts on."""
        view = memoryview(content).cast("B")
        write_all(self.fileno(), view)
        return len(view)


class Interrupts:
    """Lets SIGINT reach the code, and nothing else.

    Attributes:
        armed: Whether code is running.
    """

    def __init__(self) -> None:
        self.armed = False
        self._held = 0
        self._pending = False

    def on_signal(self, _number: int, _frame: "FrameType | None") -> None:
        """Interrupt the code, or do so as soon as our message is written."""
        if self._held:
            self._pending = True
        elif self.armed:
            raise KeyboardInterrupt

    def install(self) -> None:
        """Take SIGINT back, whatever the code has done to it."""
        if getsignal(SIGINT) != self.on_signal:
            signal(SIGINT, self.on_signal)

    def __enter__(self) -> None:
        self._held += 1

    def __exit__(self, *_: object) -> None:
        self._held -= 1
        if self._pending and not self._held:
            self._pending = False
            if self.armed:
                raise KeyboardInterrupt


class Request:
    """A run.

    Args:
        code: What to run.
        mark: What goes down both outputs before each message.
        rich: Whether rich results are wanted; empty when not.
        pairs: Names and values of variables: `=value`, or nothing to remove one.
    """

    def __init__(self, code: str, mark: str, rich: str, *pairs: str) -> None:
        self.code = code
        self.mark = mark.encode()
        self.rich = bool(rich)
        self.envs: Environment = {
            name: value[1:] if value else None
            for name, value in zip(pairs[::2], pairs[1::2])
        }


class Agent:
    """The agent at the other end."""

    def __init__(self, interrupts: Interrupts) -> None:
        self._interrupts = interrupts
        self._requests = Pipe(0)
        self._outputs = Pipe(1), Pipe(2)
        self._control = Pipe(CONTROL)
        self._lock = RLock()
        self._pid = os.getpid()
        self._mark = b""
        os.close(CONTROL)
        self.restore()

    @property
    def is_ours(self) -> bool:
        """Whether this is the worker, and not a child that the code forked."""
        return os.getpid() == self._pid

    def restore(self) -> None:
        """Give the code its input and outputs, as they were in the beginning."""
        null = os.open(os.devnull, os.O_RDONLY)
        if null != 0:
            os.dup2(null, 0)
            os.close(null)
        for fd, pipe in zip((1, 2), self._outputs):
            pipe.put_back(fd)

    def begin(self, mark: bytes) -> None:
        """Take note of a run's mark."""
        self._mark = mark

    def tell(self, message: str) -> None:
        """Send a JSON message of the run, behind all that was written before.

        Raises:
            LostError: The code has closed our descriptors.
        """
        text = message.encode() + b"\n"
        with self._lock, self._interrupts:
            for pipe in self._outputs:
                pipe.write(self._mark)
            self._control.write(text)

    def request(self) -> "Optional[Request]":
        """Return the next request with its whole code, or None at the end."""
        parts: List[str] = []
        name = ""
        while True:
            words = self._words()
            if not words:
                return None
            run, kind, code, *rest = words
            if run != name:
                # What came before belongs to an agent that is gone.
                parts, name = [], run
            parts.append(code)
            if kind == "run":
                self._control.write(b'{"type":"begun"}\n')
                return Request("".join(parts), *rest)
            self._control.write(b'{"type":"more"}\n')

    def _words(self) -> "List[str]":
        """Return the words of a frame; none at the end."""
        content = self._read(int.from_bytes(self._read(4), "big"))
        words = []
        at = 0
        while at < len(content):
            end = at + 4 + int.from_bytes(content[at : at + 4], "big")
            words.append(content[at + 4 : end].decode())
            at = end
        return words

    def _read(self, size: int) -> bytes:
        """Return so many bytes, or nothing at the end."""
        pieces = []
        while size:
            self._requests.check()
            piece = os.read(self._requests.fd, size)
            if not piece:
                return b""
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)


class Worker:
    """Runs what it is asked to."""

    def __init__(self, arguments: "list[str]") -> None:
        self._arguments = arguments
        self.interrupts = Interrupts()
        self.interrupts.install()
        self.agent = Agent(self.interrupts)
        self.module = type(sys)("__main__")
        self.module.__dict__["__builtins__"] = __builtins__
        sys.modules["__main__"] = self.module
        self._streams: dict[str, Any] = {}
        self._sources: dict[CodeType, Sequence[str]] = {}
        self._loop: Any = None
        self._rich: Any = None
        self._library = library_places()

    def serve(self) -> None:
        """Run one piece of code after the other until there is nobody to ask for it."""
        while True:
            request = self.agent.request()
            if request is None:
                os._exit(0)
            self.agent.begin(request.mark)
            error = self._run(request)
            self.agent.tell(f'{{"type":"done","error":{error}}}')

    def _run(self, request: Request) -> str:
        """Run a piece of code; return its exception, or none, as JSON."""
        self.agent.restore()
        self._open_streams()
        before = dict.fromkeys(request.envs)
        error: BaseException | None = None
        try:
            try:
                self.interrupts.install()
                for name in before:
                    before[name] = os.environ.get(name)
                set_environment(request.envs)
                self.interrupts.armed = True
                self._execute(request.code, rich=request.rich)
                flush(sys.stdout, sys.stderr)
            finally:
                self.interrupts.armed = False
        except BaseException as raised:  # noqa: BLE001 - whatever the code raises
            error = raised
        if not self.agent.is_ours:
            end_child(error, self._traceback)
        set_environment(before, quiet=True)
        flush(sys.stdout, sys.stderr)
        if error is None or isinstance(error, SystemExit):
            say_last_words(error)
            return "null"
        return self._describe(error)

    def _open_streams(self) -> None:
        """See that `sys.stdin`, `sys.stdout` and `sys.stderr` can be used."""
        for fd, name in enumerate(("stdin", "stdout", "stderr")):
            stream = getattr(sys, name, None)
            is_open = stream is not None and not getattr(stream, "closed", False)
            if is_open and len(self._streams) == 3:
                continue
            if name == "stdin":
                stream = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - it stays
            else:
                stream = io.TextIOWrapper(
                    Output(fd, "w", closefd=False),  # as `-u` has it
                    encoding="utf-8",
                    errors="backslashreplace" if name == "stderr" else "replace",
                    newline="\n",
                    write_through=True,
                )
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)
            self._streams[name] = stream

    # -- code ---------------------------------------------------------------------

    def _execute(self, code: str, *, rich: bool) -> None:
        namespace = self.module.__dict__
        if rich or self._rich is not None:
            self._enrich().begin(rich=rich)
        if not rich:
            self._evaluate(self._compile(code, "exec"), code, namespace)
            return
        ast = self._rich.ast
        tree = self._compile(code, "exec", ast.PyCF_ONLY_AST)
        last = tree.body.pop() if tree.body and is_expression(ast, tree, code) else None
        if tree.body:
            self._evaluate(self._compile(tree, "exec"), code, namespace)
        if last is not None:
            compiled = self._compile(ast.Expression(last.value), "eval")
            self._rich.result(self._evaluate(compiled, code, namespace))
        self._rich.figures()

    def _compile(self, code: "Any", mode: str, flags: int = 0) -> "Any":
        """Compile; where `await` is used outside of functions, so that it can be."""
        try:
            return compile(code, CODE_NAME, mode, flags, dont_inherit=True)
        except SyntaxError:
            try:
                flags |= PyCF_ALLOW_TOP_LEVEL_AWAIT
                return compile(code, CODE_NAME, mode, flags, dont_inherit=True)
            except SyntaxError:
                pass
            raise

    def _evaluate(self, compiled: "CodeType", code: str, namespace: "Record") -> "Any":
        self._note_source(compiled, code)
        if not compiled.co_flags & CO_COROUTINE:
            return eval(compiled, namespace)  # noqa: S307 - the purpose
        return self._await(eval(compiled, namespace))  # noqa: S307 - the purpose

    def _note_source(self, compiled: "CodeType", code: str) -> None:
        """Remember the lines of what may be called, and fail, in a later run."""
        if len(code) > SOURCE_MAX:
            return
        lines = code.splitlines()
        for each in codes_in(compiled):
            # At the end again, since the oldest are forgotten first.
            self._sources.pop(each, None)
            self._sources[each] = lines
        while len(self._sources) > SOURCES_MAX:
            del self._sources[next(iter(self._sources))]

    def _await(self, coroutine: "Any") -> "Any":
        """Run a coroutine in the context's own loop, whose tasks go on with each run."""
        import asyncio  # noqa: PLC0415 - hardly any code needs it

        if self._loop is None or self._loop.is_closed():
            self._loop = asyncio.new_event_loop()
        loop = self._loop
        asyncio.set_event_loop(loop)
        task = loop.create_task(coroutine)
        try:
            return loop.run_until_complete(task)
        except BaseException:
            if not task.done():
                task.cancel()
                loop.run_until_complete(asyncio.wait([task]))
            raise

    def _enrich(self) -> "Any":
        """Return what tells of rich results, loaded by the first run that wants them."""
        if self._rich is not None:
            return self._rich
        found = sys.path[:]
        # What lies where the code runs is the code's, and not for us to load.
        sys.path[:] = [each for each in found if each]
        try:
            path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "rich.py")
            with open(path, "rb") as file:
                compiled = compile(file.read(), path, "exec", dont_inherit=True)
            module = type(sys)("_toolbox_rich")
            exec(compiled, module.__dict__)  # noqa: S102 - our own
            self._rich = module.__dict__["Rich"](self.agent, self._arguments)
        finally:
            sys.path[:] = found
        return self._rich

    # -- exceptions ---------------------------------------------------------------

    def _describe(self, error: BaseException) -> str:
        """Return an exception as the contract tells of it, as JSON."""
        try:
            text = "".join(self._traceback(error, set()))
        except BaseException:  # noqa: BLE001 - an exception of the exception's own making
            text = type(error).__name__ + "\n"
        name = quoted(cut(type(error).__name__, VALUE_MAX))
        value = quoted(cut(text_of(error), VALUE_MAX))
        trace = quoted(cut(text, TRACEBACK_MAX))
        return f'{{"name":{name},"value":{value},"traceback":{trace}}}'

    def _traceback(self, error: BaseException, seen: "set[int]") -> "list[str]":
        """Return the lines for an exception and for what led to it."""
        seen.add(id(error))
        lines: list[str] = []
        cause, context = error.__cause__, error.__context__
        if cause is not None and id(cause) not in seen:
            lines += self._traceback(cause, seen)
            lines.append(CAUSE)
        elif (
            context is not None
            and not error.__suppress_context__
            and id(context) not in seen
        ):
            lines += self._traceback(context, seen)
            lines.append(CONTEXT)
        frames = self._frames(error)
        if frames:
            lines += ["Traceback (most recent call last):\n", *frames]
        name, value = type(error).__name__, text_of(error)
        lines.append(f"{name}: {value}\n" if value else f"{name}\n")
        notes = getattr(error, "__notes__", ())
        lines += [f"{note}\n" for note in notes if isinstance(note, str)]
        return lines

    def _frames(self, error: BaseException) -> "list[str]":
        lines: list[str] = []
        trace = error.__traceback__
        while trace is not None:
            code, number = trace.tb_frame.f_code, trace.tb_lineno
            shown, source = self._line_of(code, number)
            if shown:
                inside = "" if code.co_name == "<module>" else f", in {code.co_name}"
                lines.append(f'  File "{shown}", line {number}{inside}\n')
                if source:
                    lines.append(f"    {source}\n")
            trace = trace.tb_next
            if len(lines) > 200:
                # Of endless recursion the innermost frames tell as much as all.
                del lines[20:80]
        return lines

    def _line_of(self, code: "CodeType", number: int) -> "tuple[str, str]":
        """Return the file's name as shown and the source line; nothing of libraries."""
        name = code.co_filename
        if name == CODE_NAME:
            source = self._sources.get(code, ())
            line = source[number - 1] if 0 < number <= len(source) else ""
            return SHOWN_NAME, line.strip()
        if name.startswith(("<", *self._library)):
            return "", ""
        return name, line_in(name, number)


def line_in(path: str, number: int) -> str:
    """Return a line of a source file, if it can be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read(SOURCE_MAX * 16).splitlines()
    except (OSError, ValueError):
        return ""
    return lines[number - 1].strip() if 0 < number <= len(lines) else ""


def library_places() -> "tuple[str, ...]":
    """Return the directories whose frames are not the user's."""
    places = [os.path.dirname(os.path.abspath(__file__)), os.path.dirname(io.__file__)]
    places += [
        each for each in sys.path if "site-packages" in each or "dist-packages" in each
    ]
    return tuple(os.path.join(each, "") for each in places)


def codes_in(code: "CodeType") -> "list[CodeType]":
    """Return a code object and all that are inside it."""
    found = [code]
    for each in found:
        found += [const for const in each.co_consts if isinstance(const, type(code))]
    return found


def is_expression(ast: "ModuleType", tree: "Any", code: str) -> bool:
    """Tell whether code ends in an expression whose value is to be told."""
    if not isinstance(tree.body[-1], ast.Expr):
        return False
    # As in a notebook, a semicolon at the end keeps the value to itself.
    return not code.rstrip().endswith(";")


def text_of(error: BaseException) -> str:
    """Return what an exception says, if it can say it."""
    try:
        return str(error)
    except BaseException:  # noqa: BLE001 - the code's own method
        return "<exception str() failed>"


def cut(text: str, size: int) -> str:
    """Return a text that fits in a message, and that UTF-8 can hold."""
    if len(text) > size:
        text = text[: size // 2] + "\n[...]\n" + text[-size // 2 :]
    return text.encode("utf-8", "replace").decode("utf-8")


def set_environment(variables: "dict[str, str | None]", *, quiet: bool = False) -> None:
    """Set variables, or remove those that have no value."""
    for name, value in variables.items():
        try:
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        except (OSError, ValueError):  # noqa: PERF203 - each by itself
            if not quiet:
                raise


def flush(*streams: "Any") -> None:
    """Flush what the code may have put in the place of our streams."""
    for stream in streams:
        try:
            stream.flush()
        except Exception:  # noqa: BLE001, S110, PERF203 - it is the code's own
            pass


def say_last_words(error: "BaseException | None") -> None:
    """Print what `sys.exit("...")` was given, as the interpreter does."""
    code = getattr(error, "code", None)
    if isinstance(code, str):
        try:
            sys.stderr.write(code + "\n")
        except Exception:  # noqa: BLE001, S110 - as in `flush`
            pass


def end_child(
    error: "Optional[BaseException]",
    tell: "Callable[[BaseException, set[int]], List[str]]",
) -> None:
    """End a child that the code forked and let run into the end of its code."""
    code = 0
    if isinstance(error, SystemExit):
        say_last_words(error)
        code = error.code if isinstance(error.code, int) else int(bool(error.code))
    elif error is not None:
        write_all(2, "".join(tell(error, set())).encode("utf-8", "replace"))
        code = 1
    flush(sys.stdout, sys.stderr)
    os._exit(code & 0xFF)


def main() -> None:
    """Take the descriptors, then serve."""
    arguments = sys.argv[1:]
    sys.argv[:] = [""]
    try:
        Worker(arguments).serve()
    except LostError:
        os._exit(LOST_DESCRIPTORS)
