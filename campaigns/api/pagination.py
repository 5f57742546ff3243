"""Lists come in pages: limit and offset with a count; events by cursor, for nobody counts those."""

from __future__ import annotations

import binascii
from typing import Any

from django.db.models import QuerySet
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.pagination import Cursor, CursorPagination, LimitOffsetPagination
from rest_framework.request import Request
from rest_framework.views import APIView

DEFAULT_LIMIT, MAX_LIMIT = 100, 1000
#: A limit added to it is still one of the numbers of 64 bits that databases count in.
MOST = 10**18 - 1
#: From this offset on a page's ids are found first, by the index alone: the 900,000th row then takes 40 ms, not 250 (PostgreSQL).
DEEP = 1_000
_LIMIT_TEXT = f"How many to answer with; more than {MAX_LIMIT} is {MAX_LIMIT}. {DEFAULT_LIMIT} unless given."


def page_limit(request: Request) -> int:
    """`limit` of the query. More than the maximum is the maximum: `next` leads to the rest."""
    return min(_whole(request, "limit", DEFAULT_LIMIT, least=1), MAX_LIMIT)


def _whole(request: Request, name: str, default: int, least: int) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(MOST)) and int(text) >= least):
        raise ValidationError({name: [f"write a whole number from {least} to {MOST}"]})
    return int(text)


class PagePagination(LimitOffsetPagination):
    """The count comes from counters where the view knows it (`known_count`): counting a million rows takes longer than a page."""

    parameters = frozenset({"limit", "offset"})
    max_limit = MAX_LIMIT
    limit_query_description = _LIMIT_TEXT
    offset_query_description = "How many to leave out first."
    view: Any = None

    def paginate_queryset(self, queryset: QuerySet[Any], request: Request, view: APIView | None = None) -> list[Any] | None:  # type: ignore[override]
        self.view = view
        if self.get_offset(request) < DEEP:
            return super().paginate_queryset(queryset, request, view)
        ids = super().paginate_queryset(queryset.values_list("pk", flat=True), request, view) or []
        rows = {row.pk: row for row in queryset.filter(pk__in=ids)}
        return [rows[pk] for pk in ids if pk in rows]

    def get_count(self, queryset: QuerySet[Any]) -> int:  # type: ignore[override]
        known = self.view.known_count()
        return queryset.count() if known is None else known

    def get_limit(self, request: Request) -> int:
        return page_limit(request)

    def get_offset(self, request: Request) -> int:
        return _whole(request, "offset", 0, least=0)

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        least = {"limit": 1, "offset": 0}
        return [_bounded(parameter, least[parameter["name"]]) for parameter in super().get_schema_operation_parameters(view)]

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        return _envelope(schema, count={"type": "integer", "example": 123}, next=_link("offset=200"), previous=_link("offset=0"))


class EventPagination(CursorPagination):
    """Newest first by id; a page stays the same however many events come in."""

    parameters = frozenset({"limit", "cursor"})
    ordering = "-id"
    page_size_query_param = "limit"
    page_size_query_description = _LIMIT_TEXT
    cursor_query_description = "Where to go on; taken from `next` or `previous`."

    def get_page_size(self, request: Request) -> int:
        return page_limit(request)

    def decode_cursor(self, request: Request) -> Cursor | None:
        try:
            cursor = super().decode_cursor(request)
            position = None if cursor is None else str(cursor.position or 0)
            if position is not None and not (position.isascii() and position.isdigit()):
                raise NotFound
        except (NotFound, binascii.Error, UnicodeError):
            raise ValidationError({"cursor": ["take the cursor from next or previous"]}) from None
        return cursor

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        cursor, limit = super().get_schema_operation_parameters(view)
        return [cursor, _bounded(limit, 1)]

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        return _envelope(schema, next=_link("cursor=cD0xMjM%3D"), previous=_link("cursor=cj0xJnA9MTIz"))


def _bounded(parameter: dict[str, Any], least: int) -> dict[str, Any]:
    return {**parameter, "schema": {"type": "integer", "minimum": least}}


def _link(query: str) -> dict[str, Any]:
    return {"type": "string", "nullable": True, "format": "uri", "example": f"https://tracking.example.com/api/…?{query}"}


def _envelope(schema: dict[str, Any], **properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": [*properties, "results"], "properties": {**properties, "results": schema}}
