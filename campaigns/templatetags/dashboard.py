"""How numbers, times and states are written on pages."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

from campaigns.times import utc_now

register = template.Library()

_STEPS = ((365 * 86400, "year"), (30 * 86400, "month"), (86400, "day"), (3600, "hour"), (60, "minute"))


@register.filter
def number(value: int) -> str:
    """With thousands separators."""
    return f"{value:,}"


@register.filter
def percent(value: float) -> str:
    """A rate of `campaigns.metrics`: one decimal."""
    return f"{value:.1f}%"


@register.filter
def words(name: str) -> str:
    """The name of a field as a label: bounce_type, "Bounce type"."""
    return name.replace("_", " ").capitalize()


@register.filter
def pretty_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


def ago(moment: dt.datetime, now: dt.datetime) -> str:
    """The distance in one unit: "3 hours ago", "in 2 minutes", "just now"."""
    seconds = int((now - moment).total_seconds())
    for size, unit in _STEPS:
        if abs(seconds) >= size:
            n = abs(seconds) // size
            text = f"{n} {unit}{'s' if n > 1 else ''}"
            return f"{text} ago" if seconds > 0 else f"in {text}"
    return "just now"


@register.simple_tag
def when(moment: dt.datetime | None, style: str = "relative") -> SafeString:
    """A moment, relative with the absolute as its title; `style="both"` writes both; `"–"` where there is none."""
    if moment is None:
        return format_html('<span class="text-body-secondary">{}</span>', "–")
    absolute, relative = f"{moment:%Y-%m-%d %H:%M:%S} UTC", ago(moment, utc_now())
    stamp = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if style == "both":
        return format_html(
            '<time datetime="{}" title="{}">{} <span class="text-body-secondary">{}</span></time>', stamp, absolute, absolute, relative
        )
    return format_html('<time datetime="{}" title="{}">{}</time>', stamp, absolute, relative)


@register.simple_tag
def badge(word: str) -> SafeString:
    """A status or the kind of an event, by text and colour."""
    return format_html('<span class="badge status-{}">{}</span>', word, word)
