"""What all views of the API have in common."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.http import Http404
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework.viewsets import GenericViewSet

from campaigns.api.filters import StrictFilterBackend
from campaigns.api.pagination import PagePagination
from campaigns.api.parsers import BoundedJSONParser
from campaigns.api.schema import ApiSchema

#: Without `options`: the schema says more than DRF's answer to it would.
METHODS = ["get", "head", "post", "patch", "delete"]


class ApiView(APIView):
    """A view that refuses a `format` it has not: DRF would say that there is nothing at the address."""

    def perform_content_negotiation(self, request: Request, force: bool = False) -> tuple[BaseRenderer, str]:
        try:
            return super().perform_content_negotiation(request, force)  # type: ignore[return-value]
        except Http404:
            known = ", ".join(renderer.format for renderer in self.get_renderers())
            raise ValidationError({"format": [f"there is no such format; there are: {known}"]}) from None


class ApiViewSet(ApiView, GenericViewSet[Any]):
    """A view set whose lists refuse unknown filters and whose ids are numbers."""

    parser_classes = [BoundedJSONParser]
    filter_backends = [StrictFilterBackend]
    pagination_class: Any = PagePagination
    filterset_class: Any = None
    lookup_value_converter = "int"
    http_method_names = METHODS
    schema = ApiSchema()

    def get_object(self) -> Any:
        """The row with the id of the address, 404 where there is none. Lists alone are filtered."""
        found = self.get_queryset().filter(pk=self.kwargs["pk"]).first()
        if found is None:
            raise NotFound(f"There is no {self.get_queryset().model._meta.verbose_name} {str(self.kwargs['pk'])[:30]}.")
        return found

    def page(self, queryset: QuerySet[Any]) -> Response:
        """The page of it that the query asks for, filtered as the query asks."""
        page = self.paginate_queryset(self.filter_queryset(queryset))
        return self.get_paginated_response(self.get_serializer(page, many=True).data)

    def known_count(self) -> int | None:
        """How many rows the list has, where it is known without counting them; None where it is not."""
        return None

    def is_filtered(self, request: Request) -> bool:
        return not set(request.query_params) <= {*PagePagination.parameters, "ordering", "format"}


class CsvRenderer(BaseRenderer):
    """Lets clients that ask for text/csv in; the file itself is streamed past DRF's renderers."""

    media_type = "text/csv"
    format = "csv"
    charset = "utf-8"

    def render(self, data: Any, *_: Any, **__: Any) -> bytes:
        return b""
