"""Calls of the API as a program makes them."""

from __future__ import annotations

import json
from typing import Any

from django.http import HttpResponse
from django.test import Client


class Api:
    """Answers are given as Python values once their status is the expected one."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def get(self, path: str, expect: int = 200, **query: Any) -> Any:
        return self._answer(self.client.get(path, query or None), expect)

    def post(self, path: str, body: Any = None, status: int = 200) -> Any:
        return self._send("post", path, body, status)

    def patch(self, path: str, body: Any, status: int = 200) -> Any:
        return self._send("patch", path, body, status)

    def delete(self, path: str, status: int = 204) -> Any:
        return self._answer(self.client.delete(path), status)

    def refused(self, method: str, path: str, body: Any = None, status: int = 400) -> str:
        """The sentence with which it was refused."""
        return self._send(method, path, body, status)["detail"]  # type: ignore[no-any-return]

    def _send(self, method: str, path: str, body: Any, status: int) -> Any:
        send = getattr(self.client, method)
        if method == "get":
            return self._answer(send(path), status)
        data = body if isinstance(body, str | bytes) else "" if body is None else json.dumps(body)
        return self._answer(send(path, data, content_type="application/json"), status)

    @staticmethod
    def _answer(response: HttpResponse, status: int) -> Any:
        assert response.status_code == status, (response.status_code, response.getvalue()[:500])
        if status >= 400:
            assert response["Content-Type"] == "application/problem+json"
            problem = response.json()
            assert problem["status"] == status
            assert problem["detail"]
        return response.json() if response.getvalue() else None
