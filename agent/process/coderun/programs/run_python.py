"""Runs code as `python3 -u -` would run it, and gives its charts to the agent.

    python3 -u run_python.py [argument ...] file

The sandbox's own Python runs this, of any version from 3.8 on and with nothing but its
standard library. The last word is the file with the code; the code sees `sys.argv ==
["-", argument, ...]`, an empty standard input, and itself as `<stdin>` in tracebacks.

Charts leave by the pipe that the agent gave as descriptor 3. It is moved out of the way
before the code starts: whoever closes all low descriptors, or starts children, neither
harms it nor hands it on. What reads figures is loaded by the import of `matplotlib.pyplot`,
whoever imports that; code without figures pays nothing.
"""

# Not pathlib, contextlib, typing: they cost as much as the whole start of the interpreter.

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.abc import Loader
    from importlib.machinery import ModuleSpec
    from types import ModuleType, TracebackType

CONTROL = 3
HIGH_DESCRIPTORS = (1000, 250, 60)
"""Numbers that nobody counts on; the first that the limit on descriptors allows."""

PYPLOT = "matplotlib.pyplot"


def main() -> None:
    """Take the words and the pipe, then run the code."""
    path = sys.argv.pop()
    with open(path, "rb") as file:
        code = file.read()
    programs = os.path.dirname(os.path.abspath(__file__))
    if not getattr(sys.flags, "safe_path", False):
        sys.path[0] = ""
    sys.argv[0] = "-"
    control = take_control()
    if control >= 0:
        sys.meta_path.insert(0, Hook(programs, control))
    run(code)


def take_control() -> int:
    """Move the agent's pipe to a high descriptor; return that, or -1 without a pipe."""
    for number in HIGH_DESCRIPTORS:
        try:
            os.dup2(CONTROL, number, inheritable=False)
        except OSError:
            continue
        os.close(CONTROL)
        return number
    return -1


def run(code: bytes) -> None:
    """Run the code as the main module; its exceptions end it as they do without us."""
    # A module of its own, so that the code finds no name of ours among its globals.
    module = type(sys)("__main__")
    module.__loader__ = sys.__loader__
    module.__file__ = "<stdin>"
    namespace = module.__dict__
    namespace["__builtins__"] = __builtins__
    for name in ("__annotations__", "__cached__"):
        # Which of them a main module begins with depends on the version.
        if name in globals():
            namespace[name] = {} if name == "__annotations__" else None
    sys.modules["__main__"] = module
    try:
        exec(compile(code, "<stdin>", "exec", dont_inherit=True), namespace)  # noqa: S102 - the purpose
    except SystemExit:
        raise
    except BaseException as error:
        # Printed here without our own frame; raised again, because the interpreter ends
        # in its own way after each kind (after KeyboardInterrupt by a signal).
        trace = error.__traceback__
        report(error, trace and trace.tb_next)
        raise


def report(error: BaseException, trace: "TracebackType | None") -> None:
    """Show an exception as the interpreter would, and keep it from being shown again."""
    error.__traceback__ = trace
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, trace
    sys.excepthook(type(error), error, trace)
    sys.excepthook = lambda *_: None


class Hook:
    """Finds nothing itself; adds to the import of pyplot what reads figures.

    Args:
        programs: The directory of what reads figures.
        control: Where the charts go.
    """

    def __init__(self, programs: str, control: int) -> None:
        self._programs = programs
        self._control = control

    def find_spec(
        self,
        name: str,
        path: "Sequence[str] | None" = None,
        target: "ModuleType | None" = None,
    ) -> "ModuleSpec | None":
        """Let the others find pyplot, and be told when it has run."""
        if name != PYPLOT:
            return None
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            if find is None or finder is self:
                continue
            spec: ModuleSpec | None = find(name, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = Telling(spec.loader, self._watch)  # type: ignore[assignment] # see there
                return spec
        return None

    def _watch(self, pyplot: "ModuleType") -> None:
        """Have the figures told that pyplot shows, or do without."""
        try:
            drawings = self._load("drawings")
            self._load("figures").watch(pyplot, self._control, drawings.watch())
        except Exception:  # noqa: BLE001, S110 - nothing of ours may fail the code
            pass

    def _load(self, name: str) -> "ModuleType":
        """Return a module of ours, which `sys.path` and `sys.modules` know nothing of."""
        module = type(sys)("_toolbox_" + name)
        path = os.path.join(self._programs, name + ".py")
        with open(path, "rb") as file:
            code = compile(file.read(), path, "exec", dont_inherit=True)
        exec(code, module.__dict__)  # noqa: S102 - our own
        return module


class Telling:
    """A module's own loader, which tells when the module has run.

    Not an `importlib.abc.Loader`: that module costs more than all of this program.
    """

    def __init__(self, loader: "Loader", tell: "Callable[[ModuleType], None]") -> None:
        self._loader = loader
        self._tell = tell

    def __getattr__(self, name: str) -> object:
        return getattr(self._loader, name)

    def create_module(self, spec: "ModuleSpec") -> "ModuleType | None":
        """Make the module as its own loader does."""
        return self._loader.create_module(spec)

    def exec_module(self, module: "ModuleType") -> None:
        """Run the module, leave no trace of us on it, and tell."""
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._tell(module)


if __name__ == "__main__":
    main()
