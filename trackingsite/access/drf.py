"""Access in the terms of Django REST Framework and of its OpenAPI schema."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import SessionAuthentication
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from trackingsite.access.decision import Access
from trackingsite.access.middleware import needed_scope


def access_of(request: HttpRequest) -> Access:
    return getattr(request, "access", None) or Access(request)


class AccessAuthentication(SessionAuthentication):
    """`request.user` is the signed-in staff user or None, `request.auth` the Access.

    Who is let in by a session alone must send the CSRF token with unsafe methods, as in any form of Django.
    """

    def authenticate(self, request: Request) -> tuple[AbstractBaseUser | AnonymousUser | None, Access] | None:  # type: ignore[override]
        access = access_of(request._request)
        if not access.allowed:
            return None
        if access.kind == "staff" and not access.local:
            self.enforce_csrf(request)
        return (request._request.user if access.kind == "staff" else None), access

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class HasAccess(BasePermission):
    """The same rule as the middleware's, for views that are reached without it."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        return access_of(request._request).may(needed_scope(request._request))


class AccessScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """The two ways to send a key, as the schema tells them."""

    target_class = AccessAuthentication
    name = ["bearer", "header"]

    def get_security_definition(self, auto_schema: Any) -> list[dict[str, str]]:
        return [
            {"type": "http", "scheme": "bearer", "description": "An API key: `email-tracking-cli key create --name NAME`."},
            {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same key in a header of its own."},
        ]
