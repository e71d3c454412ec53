"""Tells more of values than their text: HTML, JSON, pictures, charts.

`python_context.py` loads this with the first run that asks for it. Such a run has `display`
as a builtin; the value of its last expression is told as its result, and the figures that
are left open at its end are shown. Figures are read by what code-run reads them with.

Each form of a value has a media type, as in notebooks. What is too large for a message is
written to a file, and the message says where.
"""

# Any Python from 3.8 on runs this, so annotations that it could not read are quoted.

import ast
import base64
import builtins
import json
import os
import sys
import tempfile
from types import ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Optional, Set

    Bundle = Dict[str, Any]

MESSAGE_BYTES = 1024 * 1024
"""All forms of one value together."""

MARGIN_BYTES = 4 * 1024
"""What a message has besides the forms."""

TEXT_MAX = 64 * 1024
"""Characters of a value's plain text; all of a longer one is in a file."""

CELLS_MAX = 1_000_000
"""A larger table is not told as JSON."""

PYPLOT = "matplotlib.pyplot"
CHART = "application/vnd.toolbox.chart+json"
PNG = "image/png"
HTML = "text/html"
JSON = "application/json"

METHODS = {
    "_repr_html_": HTML,
    "_repr_markdown_": "text/markdown",
    "_repr_latex_": "text/latex",
    "_repr_svg_": "image/svg+xml",
    "_repr_png_": PNG,
    "_repr_jpeg_": "image/jpeg",
    "_repr_json_": JSON,
}
"""By which methods a value tells of itself (IPython, "Integrating your objects")."""

ENDINGS = {
    HTML: ".html",
    JSON: ".json",
    CHART: ".json",
    PNG: ".png",
    "image/jpeg": ".jpg",
    "image/svg+xml": ".svg",
    "text/markdown": ".md",
    "text/plain": ".txt",
}
PICTURES = (PNG, "image/jpeg")
"""Forms that travel as base64, and lie in files as they are."""


class Rich:
    """What tells of values.

    Args:
        agent: Takes the messages; see `python_context.py`.
        arguments: The directory of what reads figures.
    """

    def __init__(self, agent: "Any", arguments: "List[str]") -> None:
        self.ast = ast
        self._agent = agent
        self._programs = arguments[0]
        self._on = False
        self._chart_of: Optional[Callable[[Any], Bundle]] = None
        self._shown: Set[int] = set()
        if PYPLOT in sys.modules:
            self._watch(sys.modules[PYPLOT])
        else:
            hook = self._load("run_python").Hook(self._programs, -1)
            hook._watch = self._watch  # noqa: SLF001 - what it does with pyplot is ours
            sys.meta_path.insert(0, hook)

    def begin(self, *, rich: bool) -> None:
        """Begin a run, of a client that knows these messages or of one that does not."""
        self._on = rich
        self._shown.clear()
        if not hasattr(builtins, "display"):
            builtins.display = self.display  # type: ignore[attr-defined] # as notebooks have it

    def display(self, *values: object, **_options: object) -> None:
        """Show values."""
        for value in values:
            self._tell("display", value)

    def result(self, value: object) -> None:
        """Show the value of a run's last expression, which `_` is from now on."""
        if value is not None:
            builtins._ = value  # type: ignore[attr-defined] # as the interpreter has it
            self._tell("result", value)

    def figures(self) -> None:
        """Show the figures that are open, and close them."""
        pyplot = sys.modules.get(PYPLOT)
        helpers = getattr(pyplot, "_pylab_helpers", None)
        if pyplot is None or helpers is None or not self._on:
            return
        managers = sorted(helpers.Gcf.get_all_fig_managers(), key=lambda each: each.num)
        try:
            for manager in managers:
                if id(manager.canvas.figure) not in self._shown:
                    self._tell("display", manager.canvas.figure)
        finally:
            pyplot.close("all")

    # -- figures ------------------------------------------------------------------

    def _watch(self, pyplot: ModuleType) -> None:
        """Read the figures of pyplot, which has just been imported, or earlier."""
        try:
            read = self._load("drawings").watch()
            chart_of = self._load("figures").chart_of
        except Exception:  # noqa: BLE001 - a version that cannot be read is still shown
            return
        self._chart_of = lambda figure: chart_of(figure, read)
        show = pyplot.show

        def show_here(*arguments: object, **named: object) -> object:
            """Show all open figures."""
            if not self._on:
                return show(*arguments, **named)
            self.figures()
            return None

        pyplot.show = show_here  # type: ignore[attr-defined] # a module takes any name

    def _load(self, name: str) -> ModuleType:
        """Return a module of code-run's, which `sys.modules` knows nothing of."""
        module = ModuleType("_toolbox_" + name)
        path = os.path.join(self._programs, name + ".py")
        with open(path, "rb") as file:
            code = compile(file.read(), path, "exec", dont_inherit=True)
        exec(code, module.__dict__)  # noqa: S102 - our own
        return module

    # -- values -------------------------------------------------------------------

    def _tell(self, kind: str, value: object) -> None:
        text = repr(value)
        if not self._on or not self._agent.is_ours:
            sys.stdout.write(text + "\n")
            return
        self._shown.add(id(value))
        forms = {name: encoded(each) for name, each in self._forms(value).items()}
        forms = {name: each for name, each in forms.items() if each}
        files: Dict[str, str] = {}
        if len(text) > TEXT_MAX:
            files["text/plain"] = stored(text.encode("utf-8", "replace"), "text/plain")
            text = text[: TEXT_MAX // 2] + "\n[...]\n" + text[-TEXT_MAX // 2 :]
        room = MESSAGE_BYTES - MARGIN_BYTES - len(encoded(text))
        for name in sorted(forms, key=lambda each: len(forms[each])):
            room -= len(forms[name])
            if room < 0:
                files[name] = stored(plain(forms.pop(name), name), name)
        # Put together by hand, since every form is encoded already.
        pairs = ",".join(f"{json.dumps(name)}:{each}" for name, each in forms.items())
        self._agent.tell(
            f'{{"type":"{kind}","text":{encoded(text)},"data":{{{pairs}}},'
            f'"files":{json.dumps(files)}}}'
        )

    def _forms(self, value: object) -> "Bundle":
        """Return the forms that a value has."""
        forms: Bundle = {}
        if isinstance(value, type):
            return forms
        for method, name in METHODS.items():
            told = called(value, method)
            if told is not None:
                forms[name] = told
        bundle = called(value, "_repr_mimebundle_")
        if isinstance(bundle, tuple):
            bundle = bundle[0]
        if isinstance(bundle, dict):
            forms.update({str(name): each for name, each in bundle.items()})
        forms.pop("text/plain", None)
        forms.update(self._figure(value))
        forms.update(table(value))
        return forms

    def _figure(self, value: object) -> "Bundle":
        """Return a figure's picture and chart; nothing of what is no figure."""
        figures = sys.modules.get("matplotlib.figure")
        if figures is None or not isinstance(value, figures.Figure):
            return {}
        if self._chart_of is None:
            return {}
        chart = dict(self._chart_of(value))
        picture = chart.pop("png", None)
        forms: Bundle = {CHART: chart}
        if picture is not None:
            forms[PNG] = picture
        return forms


def called(value: object, method: str) -> "Any":
    """Return what a method of the value says, or None when there is none or it fails."""
    try:
        function = getattr(value, method, None)
        return function() if callable(function) else None
    except Exception:  # noqa: BLE001 - one form less
        return None


def table(value: object) -> "Bundle":
    """Return a pandas table or column as JSON: `columns`, `index`, `data`."""
    pandas = sys.modules.get("pandas")
    kinds = (getattr(pandas, "DataFrame", ()), getattr(pandas, "Series", ()))
    if pandas is None or not isinstance(value, kinds):
        return {}
    forms: Bundle = {}
    try:
        if not hasattr(value, "_repr_html_"):
            forms[HTML] = value.to_frame().to_html(max_rows=60)
        if value.size <= CELLS_MAX:
            text = value.to_json(orient="split", date_format="iso")
            forms[JSON] = json.loads(text)
    except Exception:  # noqa: BLE001, S110 - an index that JSON has no form for
        pass
    return forms


def encoded(form: "Any") -> str:
    """Return a form as JSON; nothing of what JSON cannot hold."""
    if isinstance(form, (bytes, bytearray)):
        form = base64.b64encode(form).decode("ascii")
    try:
        text = json.dumps(form, allow_nan=False, default=str, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        return ""
    # Lone surrogates have no form in UTF-8.
    return text.encode("utf-8", "replace").decode("utf-8")


def plain(form: str, name: str) -> bytes:
    """Return an encoded form as a file holds it."""
    value = json.loads(form)
    if name in PICTURES and isinstance(value, str):
        return base64.b64decode(value)
    return value.encode() if isinstance(value, str) else form.encode()


def stored(content: bytes, name: str) -> str:
    """Write a form to a file that only this user can read; return its path."""
    fd, path = tempfile.mkstemp(ENDINGS.get(name, ""), "toolbox-display-")
    with open(fd, "wb") as file:
        file.write(content)
    return path
