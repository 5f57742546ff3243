"""What the admin's pages have in common."""

from __future__ import annotations

import datetime as dt
from functools import cached_property
from typing import Any, TypeVar

from django.contrib import admin, messages
from django.core.paginator import Paginator
from django.db.models import Q, QuerySet
from django.db.models.functions import Lower
from django.db.models.lookups import Exact
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.html import format_html

from campaigns.models import Campaign
from campaigns.rules import Refused

Rows = TypeVar("Rows", bound=QuerySet[Any])


def moment(name: str, description: str = "") -> Any:
    """A column or field for a moment: the admin knows those of Django only."""

    @admin.display(description=description or name.removesuffix("_at").replace("_", " "), ordering=name)
    def shown(record: Any) -> str:
        value: dt.datetime | None = getattr(record, name)
        return "–" if value is None else format_html('<span class="nowrap">{}</span> UTC', f"{value:%Y-%m-%d %H:%M:%S}")

    return shown


class BoundedPaginator(Paginator):
    """Counts up to `MOST` rows and no further: COUNT(*) of a million takes longer than the page itself."""

    MOST = 10_000

    @cached_property
    def _counted(self) -> int:
        return int(self.object_list.order_by()[: self.MOST + 1].count())  # type: ignore[attr-defined]

    @property
    def count(self) -> int:  # type: ignore[override]
        return min(self._counted, self.MOST)

    @property
    def more(self) -> bool:
        """Whether there are more rows than are counted; search or filters lead to them."""
        return self._counted > self.MOST


class ReadOnlyAdmin(admin.ModelAdmin):
    """For what only the machinery writes."""

    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    paginator = BoundedPaginator
    actions: Any = None

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class ServiceAdmin(admin.ModelAdmin):
    """For what is made and changed through `lifecycle`. What it refuses after the form's own checks is shown, not raised."""

    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    paginator = BoundedPaginator

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        try:
            return super().changeform_view(request, object_id, form_url, extra_context)
        except Refused as error:
            self.message_user(request, str(error), messages.ERROR)
            return HttpResponseRedirect(request.get_full_path())


def living(rows: Rows) -> Rows:
    """Without those of campaigns that are being deleted. There are few of these; a join would have the planner begin with campaigns."""
    return rows.exclude(campaign__in=Campaign.objects.filter(deleted_at__isnull=False))


def named(term: str) -> Q:
    """Messages by a whole address, token or id, each found by its index."""
    found = Q(tracking_token=term) | Q(Exact(Lower("recipient_email"), term.lower()))
    return found | Q(pk=int(term)) if term.isascii() and term.isdigit() and len(term) < 19 else found
