"""The two ways to send a key, as the OpenAPI schema tells them; drf-spectacular knows them once this is imported."""

from __future__ import annotations

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension


class AccessScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "trackingsite.access.drf.AccessAuthentication"
    name = ["bearer", "header"]

    def get_security_definition(self, auto_schema: Any) -> list[dict[str, str]]:
        return [
            {"type": "http", "scheme": "bearer", "description": "An API key: `email-tracking-cli key create --name NAME`."},
            {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same key in a header of its own."},
        ]

    def get_security_requirement(self, auto_schema: Any) -> list[dict[str, list[str]]]:
        """Either of the two, not both."""
        return [{name: []} for name in self.name]
