"""Where options come from, and what becomes of bad ones."""

from pathlib import Path

import pytest

from agent import settings as options
from agent.keeper.early import base_environment
from agent.settings import Settings, SettingsError, load


def test_the_command_line_outranks_the_variable_and_that_the_platforms() -> None:
    environ = {
        "TOOLBOX_GRACE_S": "2",
        "DAYTONA_TERMINATION_GRACE_PERIOD": "3s",
        "TOOLBOX_PORT": "1000",
    }

    assert load({"grace_s": "1"}, environ).settings.grace_s == 1.0
    assert load({}, environ).settings.grace_s == 2.0
    del environ["TOOLBOX_GRACE_S"]
    assert load({}, environ).settings.grace_s == 3.0
    assert load({}, environ).settings.port == 1000
    assert load({}, {}).settings.port == 2280


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5", 5.0), ("2.5", 2.5), ("5s", 5.0), ("1m30s", 90.0), ("500ms", 0.5)],
)
def test_durations_are_seconds_or_go_durations(text: str, seconds: float) -> None:
    assert load({"grace_s": text}, {}).settings.grace_s == seconds


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"port": "x"}, "--port"),
        ({"port": "70000"}, "--port"),
        ({"port": "-1"}, "--port"),
        ({"grace_s": "soon"}, "--grace-s"),
        ({"no_auth": "perhaps"}, "--no-auth"),
        ({"body_max_bytes": "0"}, "--body-max-bytes"),
        ({"log_level": "loud"}, "--log-level"),
        ({"shell": "bash"}, "--shell"),
        ({"shell": "/no/such/shell"}, "--shell"),
        ({"shell": "/etc/passwd"}, "--shell"),
    ],
)
def test_a_bad_option_is_an_error_that_names_it(
    given: dict[str, str], name: str
) -> None:
    with pytest.raises(SettingsError, match=name):
        load(given, {})


def test_a_bad_variable_of_ours_is_an_error_and_of_the_platform_a_warning() -> None:
    with pytest.raises(SettingsError, match="TOOLBOX_GRACE_S"):
        load({}, {"TOOLBOX_GRACE_S": "soon"})

    loaded = load({}, {"DAYTONA_TERMINATION_GRACE_PERIOD": "soon"})

    assert loaded.settings.grace_s == Settings.grace_s
    assert "DAYTONA_TERMINATION_GRACE_PERIOD" in loaded.warnings[0]


def test_an_empty_variable_counts_as_not_set() -> None:
    assert load({}, {"TOOLBOX_PORT": ""}).settings.port == 2280


def test_the_sandbox_is_named_after_the_host_when_nobody_names_it() -> None:
    assert load({}, {}).settings.sandbox_id
    assert load({}, {"DAYTONA_SANDBOX_ID": "box"}).settings.sandbox_id == "box"


def test_settings_survive_the_way_to_the_api_process() -> None:
    settings = load(
        {"allowed_hosts": "a:1, b:2", "grace_s": "1"}, {}, entrypoint=["a b", "c"]
    ).settings

    assert Settings.from_json(settings.to_json()) == settings


def test_every_option_has_a_variable_that_children_must_not_see() -> None:
    names = {options.variable(option).encode() for option in options.options()}

    assert b"TOOLBOX_TOKEN" in names
    assert base_environment(dict.fromkeys(names, b"x") | {b"A": b"b"}) == {b"A": b"b"}


def test_the_work_dir_is_where_the_agent_starts_unless_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    home = {"HOME": "/"}

    assert options.work_dir(Settings(), home) == str(tmp_path)
    assert options.work_dir(Settings(home_as_work_dir=True), home) == "/"
    assert options.work_dir(Settings(work_dir="/usr"), home) == "/usr"
    with pytest.raises(SettingsError, match="not a directory"):
        options.work_dir(Settings(work_dir=str(tmp_path / "no")), home)
