"""Figures drawn by real matplotlib, as the charts that clients get."""

import base64
import json
import struct
from typing import Any

import pytest

from tests.process.coderun.conftest import RunCode
from tests.support.agent import Agent

pytestmark = [pytest.mark.agent, pytest.mark.timeout(90)]

PLT = "import matplotlib.pyplot as plt\n"


@pytest.fixture
def charts_of(run: RunCode) -> Any:
    """Return what runs code that ends well and returns its charts, without pictures."""

    def charts(code: str) -> list[dict[str, Any]]:
        answer = run(code)
        assert answer["exitCode"] == 0, answer["result"]
        assert answer["result"] == ""
        found: list[dict[str, Any]] = answer.get("artifacts", {"charts": []})["charts"]
        for chart in found:
            assert base64.b64decode(chart.pop("png"))[:8] == b"\x89PNG\r\n\x1a\n"
            exact(chart)
        return found

    return charts


NUMBERS = {
    *("x_ticks", "y_ticks", "outliers", "points", "angle", "radius", "autopct"),
    *("min", "first_quartile", "median", "third_quartile", "max"),
}
OBJECTS = {"elements"}


def exact(value: Any, name: str = "") -> None:
    """See that every value has the type that the newest client insists on."""
    if isinstance(value, dict):
        for key, member in value.items():
            exact(member, key)
    elif isinstance(value, list):
        for member in value:
            exact(member, name)
    elif name in NUMBERS:
        assert type(value) in {int, float}, (name, value)
    else:
        assert name not in OBJECTS
        assert type(value) is str, (name, value)


def test_lines_have_points_labels_and_axes(charts_of: Any) -> None:
    (chart,) = charts_of(
        PLT + "plt.plot([1, 2, 3], [4, 5, 6], label='up')\n"
        "plt.plot([1, 2, 3], [6.5, 5, 4])\n"
        "plt.axhline(5); plt.axvline(2); plt.grid()\n"
        "plt.title('Two'); plt.xlabel('time'); plt.ylabel('size'); plt.legend()\n"
        "plt.xticks([1, 2, 3]); plt.yscale('log'); plt.show()"
    )

    assert chart["type"] == "line"
    assert chart["title"] == "Two"
    assert (chart["x_label"], chart["y_label"]) == ("time", "size")
    assert chart["elements"] == [
        {"label": "up", "points": [[1, 4], [2, 5], [3, 6]]},
        {"points": [[1, 6.5], [2, 5], [3, 4]]},
    ]
    assert chart["x_ticks"] == [1, 2, 3]
    assert chart["x_tick_labels"] == ["1", "2", "3"]
    assert (chart["x_scale"], chart["y_scale"]) == ("linear", "log")
    assert len(chart["y_ticks"]) == len(chart["y_tick_labels"])


def test_scatter_has_its_points(charts_of: Any) -> None:
    (chart,) = charts_of(
        PLT + "import numpy as np\n"
        "plt.scatter(np.arange(3, dtype='int64'), np.float32([1, 2, 3]), label='s')\n"
        "plt.show()"
    )

    assert chart["type"] == "scatter"
    assert chart["elements"] == [{"label": "s", "points": [[0, 1], [1, 2], [2, 3]]}]


def test_what_is_not_a_number_is_in_no_list(charts_of: Any) -> None:
    (line, scatter) = charts_of(
        PLT + "import numpy as np\n"
        "plt.plot([1, 2, 3, 4], [1, np.nan, np.inf, 4]); plt.show()\n"
        "plt.scatter([1, 2], np.ma.masked_array([5, 6], [True, False])); plt.show()"
    )

    assert line["elements"] == [{"points": [[1, 1], [4, 4]]}]
    assert scatter["elements"] == [{"points": [[2, 6]]}]


def test_bars_have_their_values_as_text(charts_of: Any) -> None:
    (chart,) = charts_of(
        PLT + "plt.bar(['a', 'b', 'c'], [3, 2.5, float('nan')])\n"
        "plt.ylabel('count'); plt.show()"
    )

    assert chart["type"] == "bar"
    assert chart["elements"] == [
        {"label": "a", "value": "3"},
        {"label": "b", "value": "2.5"},
        {"label": "c"},
    ]
    assert chart["x_scale"] == "categorical"
    assert chart["y_label"] == "count"


@pytest.mark.parametrize("values", ["[7]", "[7, 7]", "[7, 9]"])
def test_bars_that_lie_have_their_labels_swapped(charts_of: Any, values: str) -> None:
    names = "['a', 'b'][:len(v)]"
    lying, standing = charts_of(
        PLT + f"v = {values}\n"
        f"plt.barh({names}, v); plt.xlabel('count'); plt.ylabel('name'); plt.show()\n"
        f"plt.bar({names}, v); plt.xlabel('name'); plt.ylabel('count'); plt.show()"
    )

    assert lying["elements"] == standing["elements"]
    for chart in (lying, standing):
        assert chart["type"] == "bar"
        assert (chart["x_label"], chart["y_label"]) == ("name", "count")
        assert chart["x_scale"] == "categorical"


def test_bars_side_by_side_and_stacked_have_groups(charts_of: Any) -> None:
    (side, stacked) = charts_of(
        PLT + "import numpy as np\n"
        "x = np.arange(2)\n"
        "plt.bar(x - 0.2, [1, 2], 0.4, label='old')\n"
        "plt.bar(x + 0.2, [3, 4], 0.4, label='new')\n"
        "plt.xticks(x, ['a', 'b']); plt.show()\n"
        "plt.bar(['a', 'b'], [1, 2], label='old')\n"
        "plt.bar(['a', 'b'], [3, 4], bottom=[1, 2], label='new'); plt.show()"
    )

    wanted = [
        {"label": "a", "group": "old", "value": "1"},
        {"label": "b", "group": "old", "value": "2"},
        {"label": "a", "group": "new", "value": "3"},
        {"label": "b", "group": "new", "value": "4"},
    ]
    assert side["elements"] == stacked["elements"] == wanted


def test_histograms_are_bars(charts_of: Any) -> None:
    (chart,) = charts_of(PLT + "plt.hist([1, 1, 2, 5], bins=[0, 2, 4, 6]); plt.show()")

    assert chart["type"] == "bar"
    assert [each["value"] for each in chart["elements"]] == ["2", "1", "1"]
    assert [each["label"] for each in chart["elements"]] == ["1", "3", "5"]


def test_pies_have_angles_and_percentages(charts_of: Any) -> None:
    (plain, percent) = charts_of(
        PLT + "plt.pie([1, 3], labels=['x', 'y'], radius=1.5); plt.title('Pie')\n"
        "plt.show()\n"
        "plt.pie([1, 3], labels=['x', 'y'], autopct='%1.0f%%'); plt.show()"
    )

    assert plain == {
        "type": "pie",
        "title": "Pie",
        "elements": [
            {"label": "x", "angle": 90, "radius": 1.5},
            {"label": "y", "angle": 270, "radius": 1.5},
        ],
    }
    assert [each["autopct"] for each in percent["elements"]] == [25, 75]


def test_boxes_have_their_statistics(charts_of: Any) -> None:
    (chart,) = charts_of(
        PLT + "plt.boxplot([[1, 2, 3, 4, 50], [2, 3, 4]]); plt.ylabel('v')\n"
        "plt.xticks([1, 2], ['a', 'b']); plt.show()"
    )

    assert chart["type"] == "box_and_whisker"
    assert chart["y_label"] == "v"
    assert chart["elements"] == [
        {
            "label": "a",
            "min": 1,
            "first_quartile": 2,
            "median": 3,
            "third_quartile": 4,
            "max": 4,
            "outliers": [50],
        },
        {
            "label": "b",
            "min": 2,
            "first_quartile": 2.5,
            "median": 3,
            "third_quartile": 3.5,
            "max": 4,
            "outliers": [],
        },
    ]


def test_boxes_that_lie_have_their_labels_swapped(charts_of: Any) -> None:
    (chart,) = charts_of(
        PLT + "plt.boxplot([[1, 2, 3]], orientation='horizontal')\n"
        "plt.yticks([1], ['a']); plt.xlabel('v'); plt.ylabel('name'); plt.show()"
    )

    assert (chart["x_label"], chart["y_label"]) == ("name", "v")
    assert chart["elements"][0]["label"] == "a"
    assert chart["elements"][0]["median"] == 2


def test_boxes_that_were_cleared_away_are_not_told(charts_of: Any) -> None:
    (chart,) = charts_of(
        PLT + "f, ax = plt.subplots(); ax.boxplot([1, 2]); ax.clear()\n"
        "ax.plot([1, 2]); plt.show()"
    )

    assert chart["type"] == "line"


def test_several_plots_are_a_composite_with_all_that_they_hold(charts_of: Any) -> None:
    (chart,) = charts_of(
        PLT + "f, (a, b) = plt.subplots(1, 2)\n"
        "a.plot([1, 2]); a.set_title('A'); a.set_xlabel('ax')\n"
        "b.bar(['k'], [3]); b.set_title('B'); b.set_ylabel('by')\n"
        "f.suptitle('Both'); plt.show()"
    )

    assert (chart["type"], chart["title"]) == ("composite_chart", "Both")
    line, bar = chart["elements"]
    assert (line["type"], line["title"], line["x_label"]) == ("line", "A", "ax")
    assert line["elements"] == [{"points": [[0, 1], [1, 2]]}]
    assert (bar["type"], bar["title"], bar["y_label"]) == ("bar", "B", "by")
    assert bar["elements"] == [{"label": "k", "value": "3"}]
    assert "png" not in line


def test_other_kinds_are_unknown_and_have_a_picture(charts_of: Any) -> None:
    image, empty = charts_of(
        PLT
        + "plt.imshow([[1, 2], [3, 4]]); plt.colorbar(); plt.title('I'); plt.show()\n"
        "plt.figure(); plt.show()"
    )

    assert (image["type"], image["title"], image["elements"]) == ("unknown", "I", [])
    assert (empty["type"], empty["elements"]) == ("unknown", [])


DAY = 86400.0
NEW_YEAR_2024 = 1704067200.0


@pytest.mark.parametrize(
    "days",
    [
        "[datetime.datetime(2024, 1, 1), datetime.datetime(2024, 1, 2)]",
        "[datetime.date(2024, 1, 1), datetime.date(2024, 1, 2)]",
        "np.array(['2024-01-01', '2024-01-02'], dtype='datetime64[ns]')",
        "pd.to_datetime(['2024-01-01', '2024-01-02'])",
        (
            "[datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc),"
            " datetime.datetime(2024, 1, 2, tzinfo=datetime.timezone.utc)]"
        ),
    ],
)
def test_dates_are_seconds(charts_of: Any, days: str) -> None:
    line, scatter = charts_of(
        PLT + "import datetime, numpy as np, pandas as pd\n"
        f"days = {days}\n"
        "plt.plot(days, [1, 2]); plt.show()\nplt.scatter(days, [1, 2]); plt.show()"
    )

    points = [[NEW_YEAR_2024, 1], [NEW_YEAR_2024 + DAY, 2]]
    for chart in (line, scatter):
        assert chart["elements"] == [{"points": points}]
        assert chart["x_scale"] == "datetime"
        assert NEW_YEAR_2024 in chart["x_ticks"]
        assert len(chart["x_ticks"]) == len(chart["x_tick_labels"])
    assert line["y_scale"] == "linear"


def test_pandas_plots_of_every_kind_are_charts(charts_of: Any) -> None:
    charts = charts_of(
        "import pandas as pd\n"
        "import matplotlib.pyplot as plt\n"
        "days = pd.date_range('2024-01-01', periods=3)\n"
        "pd.Series([1, 2, 3], index=days, name='s').plot(); plt.show()\n"
        "frame = pd.DataFrame({'a': [1, 2], 'b': [3, 4]}, index=['k', 'l'])\n"
        "for kind in ('bar', 'barh', 'box'):\n"
        "    frame.plot(kind=kind); plt.show()\n"
        "frame['a'].plot.pie(); plt.show()\n"
        "frame.plot.scatter('a', 'b'); plt.show()\n"
    )

    kinds = ["line", "bar", "bar", "box_and_whisker", "pie", "scatter"]
    assert [each["type"] for each in charts] == kinds
    series, bars, lying, boxes, pie, _ = charts
    assert series["x_scale"] == "datetime"
    assert series["elements"][0]["points"][1] == [NEW_YEAR_2024 + DAY, 2]
    wanted = [
        {"label": "k", "group": "a", "value": "1"},
        {"label": "l", "group": "a", "value": "2"},
        {"label": "k", "group": "b", "value": "3"},
        {"label": "l", "group": "b", "value": "4"},
    ]
    assert bars["elements"] == lying["elements"] == wanted
    assert [each["label"] for each in boxes["elements"]] == ["a", "b"]
    assert [each["label"] for each in pie["elements"]] == ["k", "l"]


def test_seaborn_reaches_pyplot_by_itself(charts_of: Any) -> None:
    charts = charts_of(
        "import seaborn as sns\n"
        "d = {'k': ['a', 'a', 'b', 'b'], 'v': [1, 2, 3, 4]}\n"
        "show = sns.axisgrid.plt.show\n"
        "sns.barplot(x=d['k'], y=d['v'], errorbar=None); show()\n"
        "sns.boxplot(x=d['k'], y=d['v']); show()\n"
        "sns.scatterplot(x=d['v'], y=d['v']); show()\n"
    )

    kinds = [each["type"] for each in charts]
    assert kinds == ["bar", "box_and_whisker", "scatter"]
    assert charts[0]["elements"][0] == {"label": "a", "value": "1.5"}
    assert charts[1]["elements"][1]["label"] == "b"


@pytest.mark.parametrize(
    "way",
    [
        "import pylab as p",
        "from matplotlib import pyplot as p",
        "import importlib; p = importlib.import_module('matplotlib.pyplot')",
        "p = __import__('matplotlib.pyplot').pyplot",
        "import sys, matplotlib.pyplot; p = sys.modules['matplotlib.pyplot']",
        (
            "import types\nfrom matplotlib.pyplot import *\n"
            "p = types.SimpleNamespace(plot=plot, show=show)"
        ),
        "import matplotlib; matplotlib.use('svg')\nimport matplotlib.pyplot as p",
    ],
)
def test_every_way_to_import_pyplot_is_seen(charts_of: Any, way: str) -> None:
    (chart,) = charts_of(f"{way}\np.plot([1, 2])\np.show()")

    assert chart["type"] == "line"


def test_figures_are_told_in_order_once_each_and_closed_after(charts_of: Any) -> None:
    charts = charts_of(
        PLT + "def draw(n, title):\n"
        "    plt.figure(n); plt.plot([1, 2]); plt.title(title)\n"
        "draw(2, 'second'); draw(1, 'first'); draw(3, 'first')\n"
        "plt.show()\n"
        "assert plt.get_fignums() == []\n"
        "plt.show()\n"
        "draw(1, 'later'); plt.show()"
    )

    assert [each["title"] for each in charts] == ["first", "second", "later"]


def test_figures_that_are_not_shown_are_not_told(run: RunCode) -> None:
    answer = run(PLT + "plt.plot([1]); plt.savefig('out.png'); print('saved')")

    assert answer == {"exitCode": 0, "result": "saved\n"}


def test_the_picture_is_the_whole_figure_at_100_dots_per_inch(run: RunCode) -> None:
    answer = run(PLT + "plt.figure(figsize=(4, 2)); plt.plot([1, 2]); plt.show()")

    png = base64.b64decode(answer["artifacts"]["charts"][0]["png"])
    width, height = struct.unpack(">II", png[16:24])
    # Cut to what is drawn, so a little less than 4 by 2 inches.
    assert 300 < width < 420
    assert 150 < height < 220


def test_no_display_is_no_warning_even_where_one_is_named(run: RunCode) -> None:
    answer = run(
        "import matplotlib; matplotlib.use('Agg')\n"
        + PLT + "plt.plot([1, 2]); plt.show(); print('end')",
        envs={"DISPLAY": ":99"},
    )  # fmt: skip

    assert answer["result"] == "end\n"
    assert len(answer["artifacts"]["charts"]) == 1


def test_a_figure_that_cannot_be_drawn_or_read_never_fails_the_code(
    run: RunCode,
) -> None:
    answer = run(
        PLT + "from matplotlib.artist import Artist\n"
        "class Bad(Artist):\n"
        "    def draw(self, *a, **k): raise RuntimeError('cannot be drawn')\n"
        "plt.plot([1, 2]); plt.gca().add_artist(Bad()); plt.show(); print('went on')\n"
        "plt.plot([1, 2]); plt.gca().get_title = lambda *a: 1/0; plt.show()\n"
        "print('and on')"
    )

    assert answer["exitCode"] == 0
    assert answer["result"] == "went on\nand on\n"
    without_picture, without_numbers = answer["artifacts"]["charts"]
    assert without_picture["type"] == "line"
    assert "png" not in without_picture
    assert (without_numbers["type"], without_numbers["elements"]) == ("unknown", [])
    assert without_numbers["png"]


def test_charts_arrive_when_the_code_closes_every_low_descriptor(run: RunCode) -> None:
    answer = run(
        "import os; os.closerange(3, 60)\n" + PLT + "plt.plot([1, 2]); plt.show()"
    )

    assert len(answer["artifacts"]["charts"]) == 1


def test_closing_the_agents_pipe_too_loses_charts_and_nothing_else(
    run: RunCode,
) -> None:
    answer = run(
        PLT + "import os; os.closerange(3, 4096)\n"
        "fds = [os.open('taken', os.O_RDWR | os.O_CREAT) for _ in range(1000)]\n"
        "plt.plot([1, 2]); plt.show(); print('went on', os.path.getsize('taken'))"
    )

    assert answer == {"exitCode": 0, "result": "went on 0\n"}


def test_children_of_the_code_do_not_have_the_pipe(run: RunCode) -> None:
    answer = run(
        "import os, subprocess\n"
        "os.set_inheritable(1, True)\n"
        "print(subprocess.run('ls /proc/self/fd', shell=True, close_fds=False,"
        " capture_output=True, text=True).stdout)"
    )

    assert max(map(int, answer["result"].split())) < 60


def test_forked_children_and_threads_may_show_at_once(run: RunCode) -> None:
    answer = run(
        PLT + "import os\n"
        "children = []\n"
        "for n in range(4):\n"
        "    pid = os.fork()\n"
        "    if pid == 0:\n"
        "        plt.plot(range(2000)); plt.title(str(n)); plt.show()\n"
        "        os._exit(0)\n"
        "    children.append(pid)\n"
        "for pid in children: os.waitpid(pid, 0)\n"
    )

    titles = [each["title"] for each in answer["artifacts"]["charts"]]
    assert sorted(titles) == ["0", "1", "2", "3"]


def test_lines_that_the_code_prints_itself_are_charts_too(run: RunCode) -> None:
    chart = {"type": "bar", "elements": [{"label": "a", "value": 3}]}
    line = "dtn_artifact_k39fd2:" + json.dumps({"type": "chart", "value": chart})

    answer = run(f"print('a')\nprint({line!r})\nprint('b')")

    assert answer["result"] == "a\nb\n"
    assert answer["artifacts"] == {
        "charts": [{"type": "bar", "elements": [{"label": "a", "value": "3"}]}]
    }


def test_points_past_the_bound_are_thinned_evenly(charts_of: Any) -> None:
    (chart,) = charts_of(PLT + "plt.plot(range(250_000)); plt.show()")

    points = chart["elements"][0]["points"]
    assert len(points) <= 100_000
    assert points[1][0] - points[0][0] == points[-1][0] - points[-2][0] == 3


def test_the_first_strict_go_client_gets_no_new_field(sandbox: Agent) -> None:
    code = PLT + "f, (a, b) = plt.subplots(1, 2); a.plot([1]); b.plot([1]); plt.show()"
    old = {"X-Daytona-Source": "sdk-go", "X-Daytona-SDK-Version": "0.187.0"}

    answer = sandbox.request(
        "POST",
        "/process/code-run",
        {"code": code, "language": "python"},
        old,
        limit_s=60,
    )

    (chart,) = answer.json()["artifacts"]["charts"]
    assert chart["elements"] == [{"type": "line"}, {"type": "line"}]
