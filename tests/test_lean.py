"""The lean import still works with the aiohttp that is installed.

Each case runs in an interpreter of its own, because it is about what gets imported.
"""

import os
import subprocess
import sys
from pathlib import Path

from tests.support.measuring import measuring

ROOT = Path(__file__).parents[1]


def python(code: str) -> str:
    """Run code in a fresh interpreter and return what it prints."""
    ended = subprocess.run(
        [
            sys.executable,
            "-I",
            "-c",
            f"import sys; sys.path.append({str(ROOT)!r})\n{code}",
        ],
        capture_output=True,
        text=True,
        timeout=9,
        check=False,
        env={**os.environ, **measuring(on=False)},
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


PREPARE = "from agent.lean import import_server; import_server()\n"


def test_neither_tls_nor_the_client_is_loaded() -> None:
    shown = python(
        PREPARE + "from aiohttp import hdrs, web\n"
        "names = ('ssl', '_ssl', 'aiohttp.client', 'aiohttp.connector', '_hashlib',"
        " 'urllib.request', 'argparse', 'html',"
        " 'asyncio')\n"
        "print(*[name in sys.modules for name in names])"
    )

    assert shown == "False " * 8 + "True"


def test_the_client_can_still_be_had_later() -> None:
    shown = python(
        PREPARE + "import aiohttp\nprint(aiohttp.ClientSession.__name__, "
        "aiohttp.__version__.split('.')[0], 'aiohttp.client' in sys.modules)"
    )

    assert shown == "ClientSession 3 True"


def test_tls_can_still_be_imported_later() -> None:
    assert python(PREPARE + "import ssl; print(bool(ssl.OPENSSL_VERSION))") == "True"


def test_what_stood_in_for_a_module_calls_the_real_one() -> None:
    shown = python(
        PREPARE + "from aiohttp import helpers, web\n"
        "print(type(helpers.getproxies()).__name__,"
        " helpers.proxy_bypass('localhost') is not None,"
        " web.ArgumentParser(prog='p').prog, 'argparse' in sys.modules)\n"
        "from aiohttp import web_protocol\nprint(web_protocol.html_escape('<'))"
    )

    assert shown == "dict True p True\n&lt;"


def test_hashes_and_signatures_are_right_without_openssl() -> None:
    shown = python(
        PREPARE + "import hashlib, hmac\n"
        "print(hashlib.sha1(b'').hexdigest()[:8], hashlib.new('md5').hexdigest()[:8],"
        " hmac.new(b'k', b'', hashlib.sha256).hexdigest()[:8],"
        " hmac.compare_digest(b'a', b'a'), hmac.compare_digest(b'a', b'b'))"
    )

    assert shown == "da39a3ee d41d8cd9 8bb990c4 True False"


def test_nothing_happens_when_aiohttp_is_there_already() -> None:
    shown = python(
        "import aiohttp\n"
        + PREPARE
        + "print(type(aiohttp).__name__, 'ssl' in sys.modules)"
    )

    assert shown == "module True"


def test_what_the_package_does_not_have_is_still_an_attribute_error() -> None:
    shown = python(PREPARE + "import aiohttp\nprint(hasattr(aiohttp, 'no_such_thing'))")

    assert shown == "False"


def test_the_api_process_loads_nothing_heavy() -> None:
    shown = python(
        "import agent.api\nheavy = ('git', 'pygls', 'lsprotocol', 'watchfiles', 'psutil',"
        " 'pydantic', 'ssl', 'python_multipart')\n"
        "print([name for name in heavy if name in sys.modules])"
    )

    assert shown == "[]"
