"""The pages that a browser is shown in an app's stead."""

import html
from http import HTTPStatus

from agent.web.guard import QUERY_TOKEN

POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; form-action 'self';"
    " frame-ancestors 'none'"
)
"""The pages need nothing from anywhere and are no part of another's."""
RETRY_S = 2
"""After this time a page about a server that is not there asks for it again."""

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>{head}
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 15vh auto; max-width: 34rem }}
input {{ font: inherit; width: 22rem }} button {{ font: inherit }}
</style></head>
<body><h1>{title}</h1><p>{message}</p>{rest}</body></html>
"""
_KEY_FORM = f"""<form>
<input type="password" name="{QUERY_TOKEN}" autofocus required aria-label="token">
<button>Open</button></form>"""
_RETRY = f'<meta http-equiv="refresh" content="{RETRY_S}">'


def page(status: int, message: str) -> str:
    """Return the page that tells of a failure; with a way on, where there is one."""
    return _PAGE.format(
        title=f"{status} {HTTPStatus(status).phrase}",
        message=html.escape(message),
        head=_RETRY if status == HTTPStatus.BAD_GATEWAY else "",
        rest=_KEY_FORM if status == HTTPStatus.UNAUTHORIZED else "",
    )
