"""The pages. Each answers in full, or, to its own refreshing, with the parts that change."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.paginator import EmptyPage, PageNotAnInteger, Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils.cache import patch_vary_headers
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from django_tables2 import RequestConfig

from campaigns import metrics, queries
from campaigns.dashboard.chart import chart
from campaigns.dashboard.search import CampaignSearch, MessageSearch
from campaigns.dashboard.tables import CampaignTable, MessageTable
from campaigns.status import Status
from campaigns.times import utc_now

CAMPAIGNS_PER_PAGE = 25
LINKS_SHOWN = 20
EVENTS_PER_PAGE = 100


class ForgivingPaginator(Paginator):
    """Gives the nearest page for a number that is none, as `Paginator.get_page` does."""

    def validate_number(self, number: Any) -> int:
        try:
            return super().validate_number(number)
        except PageNotAnInteger:
            return 1
        except EmptyPage:
            return self.num_pages


@require_safe
def dashboard(request: HttpRequest) -> HttpResponse:
    """The cards and the campaigns; on an empty installation how to begin."""
    totals = queries.totals()
    if request.htmx and ("empty" in request.GET) == (totals.campaigns > 0):  # type: ignore[attr-defined]
        return HttpResponse(headers={"HX-Refresh": "true"})  # the first campaign came, or the last one went: another page
    if not totals.campaigns:
        return answer(request, "empty", start(request))
    search = CampaignSearch.of(request.GET)
    table = CampaignTable(search.campaigns())
    RequestConfig(request, paginate=False).configure(table)  # by itself it takes the size of a page from the address
    table.paginate(ForgivingPaginator, per_page=CAMPAIGNS_PER_PAGE, page=request.GET.get("page", 1))
    return answer(request, "dashboard", {"totals": totals, "rates": metrics.rates(totals), "search": search, "table": table})


@require_safe
def campaign(request: HttpRequest, pk: int) -> HttpResponse:
    """One campaign: its numbers, what happened when, why mail bounced, what was clicked, its messages."""
    found = get_object_or_404(queries.campaigns(), pk=pk)
    search = MessageSearch.of(request.GET)
    page = search.page(found)
    context = {
        "campaign": found,
        "metrics": queries.campaign_metrics([found])[pk],
        "chart": chart(pk),
        "links": queries.links(pk)[:LINKS_SHOWN],
        "search": search,
        "statuses": list(Status),
        "page": page,
        "table": MessageTable(page.rows),
    }
    return answer(request, "campaign", context)


@require_safe
def message(request: HttpRequest, pk: int) -> HttpResponse:
    """One message: its fields and its events, the newest last."""
    found = get_object_or_404(queries.messages().select_related("campaign"), pk=pk)
    events = queries.events().filter(message=pk).order_by("-occurred_at", "-id")
    page = Paginator(events, EVENTS_PER_PAGE).get_page(request.GET.get("page"))
    return answer(request, "message", {"message": found, "page": page, "events": list(page)[::-1]})


@never_cache
def answer(request: HttpRequest, page: str, context: dict[str, Any]) -> HttpResponse:
    """`dashboard/<page>.html`, or only `dashboard/live/<page>.html` where the page refreshes itself."""
    htmx = request.htmx  # type: ignore[attr-defined]
    folder = "dashboard/live" if htmx and not htmx.history_restore_request else "dashboard"
    pending = getattr(request, "tracking_pending", 0)
    response = render(
        request, f"{folder}/{page}.html", {**context, "now": utc_now(), "pending": pending, "live": f"dashboard/live/{page}.html"}
    )
    patch_vary_headers(response, ["HX-Request"])
    return response


def start(request: HttpRequest) -> dict[str, Any]:
    """What the commands of the empty installation need: where they go, and whether they need a key."""
    here = request.build_absolute_uri("/").rstrip("/")
    access = getattr(request, "access", None)
    return {"here": here, "base": settings.CONF.base_url or here, "needs_key": not getattr(access, "local", True), "token": "my-first-mail"}
