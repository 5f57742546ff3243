"""A WSGI environment out of an ASGI scope."""

from __future__ import annotations

import io
import sys
from typing import Any
from urllib.parse import unquote_to_bytes

from a2wsgi.wsgi import build_environ

#: They describe how the body travelled; it is here, whole and plain.
_OF_TRANSFER = frozenset({b"content-length", b"transfer-encoding", b"expect", b"trailer", b"te"})


def wsgi_environ(scope: dict[str, Any], body: bytes) -> dict[str, Any]:
    """The environment of a request whose body has been read.

    a2wsgi's, with four differences: the query may hold any bytes; the path is decoded from what was sent (uvicorn's has
    already lost bytes that are no UTF-8); several `Cookie` headers are joined as RFC 9113 says; and a header with an
    underscore in its name is dropped, because `X_Forwarded_For` would look like `X-Forwarded-For`.
    """
    headers, cookies = [], []
    for name, value in scope["headers"]:
        if name == b"cookie":
            cookies.append(value)
        elif b"_" not in name and name not in _OF_TRANSFER:
            headers.append((name, value))
    if cookies:
        headers.append((b"cookie", b"; ".join(cookies)))
    plain: Any = {**scope, "headers": headers, "query_string": b""}
    environ: dict[str, Any] = dict(build_environ(plain, io.BytesIO(body)))  # type: ignore[arg-type]
    environ["QUERY_STRING"] = scope["query_string"].decode("latin-1")
    if (raw := scope.get("raw_path")) is not None:
        path = unquote_to_bytes(raw).decode("latin-1")
        environ["PATH_INFO"] = path.removeprefix(scope.get("root_path", ""))
    environ["CONTENT_LENGTH"] = str(len(body))
    environ["wsgi.errors"] = sys.stderr
    environ.setdefault("REMOTE_ADDR", "")  # a Unix socket has none
    if ":" in environ["SERVER_NAME"]:
        environ["SERVER_NAME"] = f"[{environ['SERVER_NAME']}]"  # RFC 3875, 4.1.14
    return environ
