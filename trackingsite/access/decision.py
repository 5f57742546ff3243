"""What one request may do."""

from __future__ import annotations

from functools import cached_property
from typing import Literal, NamedTuple

from django.conf import settings
from django.http import HttpRequest

from tracking.brief_queries import NO_ANSWER
from trackingsite.access import keys, local
from trackingsite.access.models import SCOPES, ApiKey

Kind = Literal["key", "staff", "local"]

HOW_TO_GET_IN = (
    "Send an API key as `Authorization: Bearer KEY` or `X-API-Key: KEY` (`email-tracking-cli key create --name NAME` makes one),"
    " or sign in at /admin/login/ as a staff user (`python manage.py createsuperuser` makes one)."
)
ALL = frozenset(SCOPES)
#: What tells that the database is away, to who was let in before: it is wanted most then.
WITHOUT_DATABASE = frozenset({"/metrics", "/health/ready"})


def needed_scope(request: HttpRequest) -> str:
    return "read" if request.method in local.SAFE_METHODS else "write"


class Grant(NamedTuple):
    kind: Kind | None
    scopes: frozenset[str]
    refusal: str


class Access:
    """Who sent a request and what it may do; found out when first asked, so that a hit on a link asks nothing.

    A key that is sent counts alone: a wrong one is never made good by a session or by the local rule.
    """

    def __init__(self, request: HttpRequest) -> None:
        self._request = request

    @property
    def kind(self) -> Kind | None:
        return self._grant.kind

    @property
    def scopes(self) -> frozenset[str]:
        """Some of `read`, `write`, `send`."""
        return self._grant.scopes

    @property
    def allowed(self) -> bool:
        return self._grant.kind is not None

    @property
    def refusal(self) -> str:
        """Why nobody is let in and how to get in; "" where access is granted."""
        return self._grant.refusal

    def may(self, scope: str) -> bool:
        return scope in self._grant.scopes

    @property
    def local(self) -> bool:
        """Whether the local rule lets this request in, whatever else it carries."""
        return self.not_local is None

    @cached_property
    def not_local(self) -> str | None:
        """Why the local rule does not let this request in."""
        conf = settings.CONF
        return (
            local.why_closed(local_access=conf.local_access, base_url=conf.base_url, trusted_proxies=conf.trusted_proxies)
            or local.why_not_local(self._request.META, more_hosts=[name for name in settings.ALLOWED_HOSTS if name == "testserver"])
            or ("An API key was made, so every request needs one." if keys.ever_made() else None)
        )

    @cached_property
    def bad_key(self) -> str | None:
        """What is wrong with the key that was sent; None where none was sent or it is right."""
        return self._grant.refusal if self._grant.kind is None and keys.presented(self._request.META) is not None else None

    def _key(self, text: str) -> ApiKey:
        try:
            return keys.verify(text)
        except NO_ANSWER:
            known = keys.remembered(text) if self._request.path_info in WITHOUT_DATABASE else None
            if known is None:
                raise
            return known

    @cached_property
    def _grant(self) -> Grant:
        text = keys.presented(self._request.META)
        if text is not None:
            try:
                return Grant("key", frozenset(self._key(text).scopes), "")
            except keys.BadKey as error:
                return Grant(None, frozenset(), f"{error} {HOW_TO_GET_IN}")
        user = getattr(self._request, "user", None)
        if user is not None and user.is_active and user.is_staff:
            return Grant("staff", ALL, "")
        if self.local:
            return Grant("local", ALL, "")
        return Grant(None, frozenset(), f"{HOW_TO_GET_IN} Requests from the server's own machine need neither, but: {self.not_local}")
