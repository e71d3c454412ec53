"""What the Dockerfile promises, read from its text; and that it is read rightly."""

import re
from pathlib import Path

import pytest

from tests.image.dockerfile import Ignored, context_files, instructions, stages

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "Dockerfile.sandbox"
IGNORED = Ignored(DOCKERFILE.with_name(DOCKERFILE.name + ".dockerignore").read_text())

STAGES = stages(DOCKERFILE.read_text())
BASE, BUILD, FINAL = STAGES


def test_the_entrypoint_is_the_agent_and_the_command_its_entrypoint() -> None:
    assert FINAL.last("ENTRYPOINT").argv == ["toolbox-agent", "serve", "--"]
    assert FINAL.last("CMD").argv == []


def test_it_runs_as_an_ordinary_user_in_his_home() -> None:
    assert FINAL.last("USER").text == "daytona"
    assert FINAL.last("WORKDIR").text == "/home/daytona"
    assert "--uid 1000" in FINAL.last("RUN").text
    assert "sudo" not in DOCKERFILE.read_text()


def test_it_listens_outside_the_container_and_brings_no_token() -> None:
    variables = FINAL.last("ENV").pairs()

    assert variables["TOOLBOX_HOST"] == "0.0.0.0"
    assert FINAL.last("EXPOSE").text == "2280"
    forbidden = {"TOOLBOX_TOKEN", "TOOLBOX_TRUST_NETWORK", "TOOLBOX_NO_AUTH"}
    assert not forbidden & set(variables)


def test_docker_can_ask_for_its_health() -> None:
    health = FINAL.last("HEALTHCHECK")

    assert health.text == 'CMD ["toolbox-agent", "healthcheck"]'
    # The check's own limit is 5 s; Docker's has to leave it the time to say why.
    assert int(health.flags["timeout"].removesuffix("s")) > 5


def test_everything_named_is_installed() -> None:
    text = " ".join(each.text for each in BASE.all("RUN"))

    wanted = {"bash", "ca-certificates", "git", "procps", "python3-venv", "ripgrep"}
    assert wanted <= set(text.split())
    assert "rm -rf /var/lib/apt/lists/*" in text


def test_bytecode_is_compiled_and_never_looked_at_again() -> None:
    text = " ".join(each.text for each in BUILD.all("RUN"))

    assert "compileall" in text
    assert "--invalidation-mode unchecked-hash" in text


def test_python_packages_are_held_to_the_constraints() -> None:
    installs = [each.text for each in BUILD.all("RUN") if " pip " in each.text]

    assert len(installs) == 2
    for text in installs:
        assert "--constraint constraints.txt" in text
        assert "--no-cache-dir" in text


def test_the_typescript_server_is_of_one_version_and_runs_nothing() -> None:
    [install] = [each.text for each in BUILD.all("RUN") if "npm-cli.js" in each.text]

    assert re.search(r"typescript@7\.\d+\.\d+$", install)
    assert "--ignore-scripts" in install


def test_the_build_leaves_only_its_results() -> None:
    copies = FINAL.all("COPY")

    assert [each.words for each in copies] == [
        ["/opt/node", "/opt/node"],
        ["/opt/typescript", "/opt/typescript"],
        ["/opt/toolbox-agent", "/opt/toolbox-agent"],
    ]
    assert {each.flags["from"] for each in copies} == {"build"}


def test_no_address_and_no_secret_stands_in_it() -> None:
    text = DOCKERFILE.read_text()

    assert "://" not in text
    assert not re.search(r"^(ARG|ENV).*(TOKEN|KEY|SECRET|PASSWORD)", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("name", "kept_out"),
    [
        ("agent/api.py", False),
        ("agent/web/viewer/start.js", False),
        (".ci/constraints.txt", False),
        ("pyproject.toml", False),
        ("agent/__pycache__/api.cpython-311.pyc", True),
        ("agent/web/__pycache__/routes.cpython-311.pyc", True),
        (".git/config", True),
        (".ci/run", True),
        (".venv/bin/python", True),
        ("tests/conftest.py", True),
        ("token", True),
    ],
)
def test_the_context_is_the_agent_alone(name: str, *, kept_out: bool) -> None:
    assert IGNORED(name) is kept_out


def test_every_copied_name_is_in_the_context() -> None:
    for stage in STAGES:
        for each in stage.all("COPY"):
            if "from" not in each.flags:
                *sources, _ = each.words
                for source in sources:
                    assert context_files(ROOT, source, IGNORED), source


def test_continued_lines_flags_and_comments_are_read() -> None:
    text = '# a\nFROM x AS y\nRUN a \\\n# b\n  && b\nCOPY --from=q /c /d\nCMD ["e f"]\n'

    _, run, copy, command = instructions(text)

    assert run.argv == ["/bin/sh", "-c", "a    && b"]
    assert (copy.flags, copy.words) == ({"from": "q"}, ["/c", "/d"])
    assert command.argv == ["e f"]


def test_what_is_not_known_is_refused() -> None:
    with pytest.raises(ValueError, match="ONBUILD"):
        list(instructions("ONBUILD RUN x\n"))
