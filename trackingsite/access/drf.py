"""Access in the terms of Django REST Framework.

DRF's views import this module while they are imported themselves, so it imports no view.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.http import HttpRequest
from rest_framework.authentication import SessionAuthentication
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from trackingsite.access.decision import Access, needed_scope

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from rest_framework.views import APIView


def access_of(request: HttpRequest) -> Access:
    return getattr(request, "access", None) or Access(request)


class AccessAuthentication(SessionAuthentication):
    """`request.user` is the signed-in staff user or None, `request.auth` the Access.

    Who is let in by a session alone must send the CSRF token with unsafe methods, as with any form of Django.
    """

    def authenticate(self, request: Request) -> tuple[User | None, Access] | None:  # type: ignore[override]
        access = access_of(request._request)
        if not access.allowed:
            return None
        if access.kind != "staff":
            return None, access
        if not access.local:
            self.enforce_csrf(request)
        return request._request.user, access  # type: ignore[return-value]

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class HasAccess(BasePermission):
    """The same rule as the middleware's, for views that are reached without it."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        return access_of(request._request).may(needed_scope(request._request))
