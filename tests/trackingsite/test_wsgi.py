from __future__ import annotations

import io

import pytest

from trackingsite.wsgi import application


@pytest.mark.django_db(transaction=True)  # the end of a request looks after the connections of its thread
@pytest.mark.parametrize(
    "content_type", ["text/plain; charset=base64", "text/plain; charset=idna", "x" * 20_000, "; charset=", "text/plain; charset*=x''%"]
)
def test_a_strange_content_type_is_no_error_of_ours(content_type: str) -> None:
    statuses = []
    environ = {
        "REQUEST_METHOD": "GET", "PATH_INFO": "/health", "QUERY_STRING": "a=\xff", "CONTENT_TYPE": content_type, "SERVER_NAME": "x",
        "SERVER_PORT": "80", "wsgi.input": io.BytesIO(), "wsgi.url_scheme": "http", "REMOTE_ADDR": "127.0.0.1",
    }  # fmt: skip
    body = b"".join(application(environ, lambda status, headers: statuses.append(status)))
    assert (statuses, body) == (["200 OK"], b'{"status":"healthy"}')
