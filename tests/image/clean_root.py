"""Carries out the steps of a Dockerfile without Docker, in a clean Debian.

The clean root comes from debootstrap; each RUN happens in it by chroot, in namespaces of
its own for processes and mounts. That covers what the steps do, who the user is, what the
environment holds and how the entrypoint behaves as process 1; not what Docker itself
does: layers, its storage, its network and its default seccomp profile.

What the machine needs to reach its packages (mirror, certificates, pip's settings) is
read from the machine when this runs, and goes into the steps' environment and into files
that the finished root does not keep.
"""

import contextlib
import os
import re
import shutil
import subprocess
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.clients.environments import NODE, NPM
from tests.image.dockerfile import Ignored, Instruction, context_files, stages

SUITE = "bookworm"
BASES = {"debian:12-slim"}
"""Images that a root made by debootstrap stands for."""

STEP_LIMIT_S = 600
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

MOUNTS = """
set -e
root=$1; shift
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for name in null zero full random urandom tty; do
  : >"$root/dev/$name"
  mount --bind "/dev/$name" "$root/dev/$name"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
for name in resolv.conf hosts; do
  [ -e "$root/etc/$name" ] || : >"$root/etc/$name"
  mount --bind "/etc/$name" "$root/etc/$name"
done
exec "$@"
"""
"""What a container has mounted; it all goes with the mount namespace."""


@dataclass(frozen=True)
class Image:
    """A root directory and what the Dockerfile says of it."""

    root: Path
    env: dict[str, str] = field(default_factory=lambda: {"PATH": DEFAULT_PATH})
    user: str = "root"
    work_dir: str = "/"
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    healthcheck: tuple[str, ...] = ()

    def account(self) -> tuple[str, str, str]:
        """Return the user's numbers and home directory."""
        text = (self.root / "etc/passwd").read_text()
        fields = [line.split(":") for line in text.splitlines()]
        entry = next(each for each in fields if self.user in each[:1] + each[2:3])
        return entry[2], entry[3], entry[5]

    def inside(self, words: list[str], env: dict[str, str]) -> list[str]:
        """Return the command line that runs `words` in the root, when it is mounted."""
        uid, gid, home = self.account()
        variables = {"HOME": home, **self.env, **env}
        return [
            "chroot",
            f"--userspec={uid}:{gid}",
            f"--groups={gid}",
            str(self.root),
            "/usr/bin/env",
            "-i",
            f"--chdir={self.work_dir}",
            *(f"{name}={value}" for name, value in variables.items()),
            *words,
        ]

    def contained(
        self, words: list[str], env: dict[str, str], *namespaces: str
    ) -> list[str]:
        """Return the command line that runs `words` as process 1 of a container."""
        kinds = ["--mount", "--pid", *namespaces]
        start = ["unshare", *kinds, "--fork", "--kill-child", "sh", "-c", MOUNTS, "sh"]
        return [*start, str(self.root), *self.inside(words, env)]


def build(dockerfile: Path, context: Path, directory: Path) -> Image:
    """Carry out the Dockerfile and return its last stage; roots go into `directory`."""
    ignore_file = dockerfile.with_name(dockerfile.name + ".dockerignore")
    ignored = Ignored(ignore_file.read_text() if ignore_file.exists() else "")
    made: dict[str, Image] = {}
    image = Image(directory)
    for number, stage in enumerate(stages(dockerfile.read_text())):
        root = directory / f"stage-{number}"
        if stage.base in made:
            copy_tree(made[stage.base].root, root)
            image = replace(made[stage.base], root=root)
        else:
            assert stage.base in BASES, stage.base
            make_root(root)
            image = Image(root)
        for each in stage.instructions:
            image = carry_out(each, image, context, ignored, made)
        made[stage.name] = image
    clean_up(image.root)
    return image


def carry_out(
    each: Instruction,
    image: Image,
    context: Path,
    ignored: Ignored,
    made: dict[str, Image],
) -> Image:
    """Carry out one instruction and return what the image then is."""
    if each.name == "RUN":
        _must(image.contained(each.argv, machine_environment()))
    elif each.name == "WORKDIR":
        (image.root / each.text[1:]).mkdir(parents=True, exist_ok=True)
    elif "from" in each.flags:
        source, target = each.words
        copy_tree(made[each.flags["from"]].root / source[1:], image.root / target[1:])
    elif each.name == "COPY":
        copy_in(image, context, each.words, ignored)
    return described(image, each)


def described(image: Image, each: Instruction) -> Image:
    """Return the image with what one instruction says of it."""
    changed = image
    match each.name:
        case "ENV":
            changed = replace(image, env=image.env | each.pairs())
        case "ENTRYPOINT":
            changed = replace(image, entrypoint=tuple(each.argv))
        case "CMD":
            changed = replace(image, cmd=tuple(each.argv))
        case "HEALTHCHECK":
            command = replace(each, text=each.text.removeprefix("CMD").strip())
            changed = replace(image, healthcheck=tuple(command.argv))
        case "USER":
            changed = replace(image, user=each.text)
        case "WORKDIR":
            changed = replace(image, work_dir=each.text)
        case _:
            pass
    return changed


def _must(command: list[str]) -> None:
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=STEP_LIMIT_S,
        check=False,
        env={"PATH": DEFAULT_PATH},
    )
    text = done.stdout.decode(errors="replace")
    assert done.returncode == 0, f"exit {done.returncode}\n{text[-4000:]}"


def copy_in(image: Image, context: Path, words: list[str], ignored: Ignored) -> None:
    """Carry out one COPY from the build context."""
    *sources, target = words
    place = image.root / os.path.join(image.work_dir, target)[1:]  # noqa: PTH118 - keeps the slash
    for source in sources:
        names = context_files(context, source, ignored)
        assert names, f"nothing to copy: {source}"
        for name in names:
            within = name.relative_to(source) if name != Path(source) else name.name
            into = place / within
            into.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(context / name, into)


def copy_tree(source: Path, target: Path) -> None:
    """Copy a directory with owners, modes and links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    _must(["cp", "--archive", "--reflink=auto", str(source), str(target)])


def make_root(root: Path) -> None:
    """Make a clean Debian, as small as the slim image."""
    _must(["debootstrap", "--variant=minbase", SUITE, str(root), mirror()])
    # Without the documentation that the slim image leaves out, too.
    for name in ("usr/share/doc", "usr/share/man", "usr/share/locale"):
        shutil.rmtree(root / name, ignore_errors=True)
    (root / "etc/apt/apt.conf.d/99machine").write_text(apt_settings())
    certificates = machine_certificates()
    if certificates:
        shutil.copyfile(certificates, root / "machine-certificates.pem")


def clean_up(root: Path) -> None:
    """Remove what came from the machine."""
    for name in ("etc/apt/apt.conf.d/99machine", "machine-certificates.pem"):
        with contextlib.suppress(FileNotFoundError):
            (root / name).unlink()
    (root / "etc/apt/sources.list").write_text("")


def mirror() -> str:
    """Return the address from which this machine gets its Debian packages."""
    places = [Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("*")]
    text = "\n".join(
        each.read_text()
        for each in places
        if each.is_file() and each.suffix in {".list", ".sources"}
    )
    lines = re.findall(rf"^deb (?:\[.*\] )?(\S+) {SUITE} main", text, re.MULTILINE)
    for stanza in text.split("\n\n"):
        address = re.search(r"^URIs: *(\S+)", stanza, re.MULTILINE)
        if address and re.search(rf"^Suites:.*\b{SUITE}\b(?!-)", stanza, re.MULTILINE):
            lines.append(address[1])
    assert lines, f"no source of {SUITE} in the machine's apt sources"
    return str(lines[0])


def apt_settings() -> str:
    """Return the machine's settings of how apt reaches its sources."""
    dump = subprocess.run(["apt-config", "dump"], check=True, capture_output=True)
    wanted = re.compile(r"^Acquire::(Check-|https?::|Retries|ForceIPv)")
    lines = dump.stdout.decode().splitlines()
    return "".join(f"{line}\n" for line in lines if wanted.match(line))


def machine_certificates() -> str | None:
    """Return the file of authorities that this machine's Python clients trust."""
    names = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
    found = [os.environ[name] for name in names if os.environ.get(name)]
    return next((each for each in found if Path(each).is_file()), None)


def machine_environment() -> dict[str, str]:
    """Return the variables by which a step reaches the machine's package sources."""
    taken = {
        name: value
        for name, value in os.environ.items()
        if re.fullmatch(
            r"(https?|no)_proxy|PIP_(?!FIND_LINKS|CERT)\w+", name, re.IGNORECASE
        )
    }
    if machine_certificates():
        taken["PIP_CERT"] = "/machine-certificates.pem"
        taken["NODE_EXTRA_CA_CERTS"] = "/machine-certificates.pem"
    # Where npm looks may stand in a file of this machine's.
    asked = [str(NODE), str(NPM), "config", "get", "registry"]
    registry = subprocess.run(asked, capture_output=True, text=True, check=True)
    return taken | {"NPM_CONFIG_REGISTRY": registry.stdout.strip()}
