"""What the official clients make of code-run, charts of all types included."""

import pytest

from tests.clients.conftest import Told

pytestmark = [pytest.mark.clients, pytest.mark.timeout(280)]

newest = pytest.mark.parametrize(
    "told", ["code sync", "code async", "code javascript"], indirect=True
)
older = pytest.mark.parametrize("told", ["code first", "code middle"], indirect=True)

DAY = 86400
NEW_YEAR_2024 = 1704067200


@newest
def test_python_code_has_its_arguments_environment_and_exit_code(told: Told) -> None:
    python = told["python"]

    assert python["printed"] == [0, "42\n"]
    assert python["given"] == [0, "['-', 'a b', '$X'] x; echo $HOME\n"]
    assert python["failed"] == [3, ""]
    assert python["input"][0] == 1
    assert "EOFError" in python["input"][1]


@newest
def test_failures_are_told_by_status_and_code(told: Told) -> None:
    timeout, empty = told["python"]["timeout"], told["python"]["empty"]

    if told.client == "code javascript":
        assert (timeout["status"], empty["status"]) == (408, 400)
        assert timeout["code"] == "PROCESS_EXECUTION_TIMEOUT"
        assert "DaytonaProcessExecutionTimeoutError" in timeout["kinds"]
        assert "DaytonaBadRequestError" in empty["kinds"]
    else:
        # Of all its calls this one alone hands on what the generated client raises.
        assert "ApiException" in timeout["kinds"]
        assert "BadRequestException" in empty["kinds"]
        assert "CodeProcessExecutionTimeout" in timeout["message"]
        assert "code cannot be empty" in empty["message"]


@newest
def test_javascript_and_typescript_run_too(told: Told) -> None:
    assert told["others"] == {
        "javascript": [0, "[ 'a b' ] v\n"],
        "typescript": [0, "[ 'a b' ] v\n"],
    }


@newest
def test_charts_of_every_type_arrive_with_all_that_they_hold(told: Told) -> None:
    charts = told["charts"]

    assert charts["result"] == [0, "drawn\n"]
    assert charts["stdout"] == "drawn\n"
    titles = ["Line", "Scatter", "Bar", "Pie", "Box", "Composite", "Other"]
    assert charts["titles"] == titles
    assert charts["pictures"] == [True] * 7
    line, scatter, bar, pie, box, composite, other = charts["charts"]
    assert line["type"] == "line"
    points = [[NEW_YEAR_2024, 1], [NEW_YEAR_2024 + DAY, 2]]
    assert line["elements"] == [{"label": "up", "points": points}]
    assert line["x_scale"] == "datetime"
    assert (line["x_label"], line["y_label"]) == ("x", "y")
    assert NEW_YEAR_2024 + DAY in line["x_ticks"]
    assert scatter["type"] == "scatter"
    assert scatter["elements"] == [{"points": [[1, 3], [2, 4]]}]
    assert bar["type"] == "bar"
    assert bar["elements"] == [
        {"label": "a", "value": "3"},
        {"label": "b", "value": "2.5"},
    ]
    assert pie["type"] == "pie"
    assert pie["elements"] == [
        {"label": "p", "angle": 90, "radius": 1, "autopct": 25},
        {"label": "q", "angle": 270, "radius": 1, "autopct": 75},
    ]
    assert box["type"] == "box_and_whisker"
    assert box["elements"][0]["outliers"] == [50]
    assert composite["type"] == "composite_chart"
    kinds = [[each["type"], each["title"]] for each in composite["elements"]]
    assert kinds == [["line", "Left"], ["bar", "Right"]]
    assert composite["elements"][1]["elements"] == [{"label": "r", "value": "1"}]
    assert other["type"] == "unknown"


@pytest.mark.parametrize("told", ["code sync", "code async"], indirect=True)
def test_each_type_of_chart_has_its_class(told: Told) -> None:
    assert told["charts"]["classes"] == [
        "LineChart",
        "ScatterChart",
        "BarChart",
        "PieChart",
        "BoxAndWhiskerChart",
        "CompositeChart",
        "Chart",
    ]


@older
def test_older_clients_run_code_by_commands_of_their_own(told: Told) -> None:
    python = told["python"]

    assert python["printed"] == [0, "42\n"]
    assert python["given"] == [0, "['a', 'b'] x; echo $HOME\n"]
    assert python["failed"] == 3
    assert "command execution timeout" in python["timeout"]["message"]


@older
def test_older_clients_find_the_charts_in_the_output(told: Told) -> None:
    charts = told["charts"]

    assert charts["result"] == [0, "drawn\n"]
    assert charts["classes"] == ["LineChart", "BarChart"]
    assert charts["titles"] == ["Line", "Bar"]
    assert charts["pictures"] == [True, True]
    assert charts["points"] == [[1, 3], [2, 4]]
