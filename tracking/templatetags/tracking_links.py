"""`{% pixel_url token %}` and `{% link_url token url %}`, for pages and mails made from templates."""

from __future__ import annotations

from typing import Any

from django import template
from django.conf import settings
from django.template import Context

from tracking import links

register = template.Library()


@register.simple_tag(takes_context=True)
def pixel_url(context: Context, token: str) -> str:
    """The address of a message's pixel."""
    return links.pixel_url(token, _base(context))


@register.simple_tag(takes_context=True)
def link_url(context: Context, token: str, url: str, position: str = "") -> str:
    """A signed address that leads to `url` and counts the click."""
    return links.link_url(token, url, _base(context), position)


def _base(context: Context) -> str:
    """TRACKING_BASE_URL, else where the request came to; without a request this machine."""
    request: Any = context.get("request")
    if settings.CONF.base_url or request is None:
        return ""
    return f"{request.scheme}://{request.get_host()}"
