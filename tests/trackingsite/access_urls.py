"""A site of a few views, so that the middleware is tested without the rooms behind it."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.db import DataError, InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from rest_framework import exceptions, serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from campaigns.rules import Refused

handler400 = "trackingsite.problems.bad_request"
handler403 = "trackingsite.problems.permission_denied"
handler404 = "trackingsite.problems.not_found"
handler500 = "trackingsite.problems.server_error"


class Item(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=5)
    tags = serializers.ListField(child=serializers.CharField(max_length=2), required=False)


class Things(APIView):
    def get(self, request: Request) -> Response:
        return Response({"user": str(request.user), "kind": request.auth.kind})

    def post(self, request: Request) -> Response:
        many = isinstance(request.data, list)
        item = Item(data=request.data, many=many)
        item.is_valid(raise_exception=True)
        return Response({"kind": request.auth.kind}, status=201)


#: What a view may raise, by the last part of its address.
RAISED: dict[str, Exception] = {
    "refused": Refused("the token is taken", field="tracking_token", status=409),
    "refused-whole": Refused("too many at once"),
    "missing": Http404("No Message matches the given query."),
    "denied": PermissionDenied(),
    "not-found": exceptions.NotFound(),
    "throttled": exceptions.Throttled(wait=3),
    "operational": OperationalError("database is locked"),
    "interface": InterfaceError("connection already closed"),
    "data": DataError("integer out of range"),
    "overflow": OverflowError("Python int too large to convert to SQLite INTEGER"),
    "too-big": RequestDataTooBig("Request body exceeded settings.DATA_UPLOAD_MAX_MEMORY_SIZE."),
    "bug": ZeroDivisionError("secret detail"),
}


class Raises(APIView):
    def get(self, request: Request, what: str) -> Response:
        raise RAISED[what]


def page_raises(request: HttpRequest, what: str) -> HttpResponse:
    raise RAISED[what]


def public(request: HttpRequest) -> HttpResponse:
    return HttpResponse("public")


@csrf_exempt
def local(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"local": request.access.local})  # type: ignore[attr-defined]


def page(request: HttpRequest) -> HttpResponse:
    return HttpResponse("a page")


urlpatterns = [
    path("track/pixel", public),
    path("health", public),
    path("webhooks/any", local),
    path("api/things", Things.as_view()),
    path("api/raises/<str:what>", Raises.as_view()),
    path("dashboard", page),
    path("dashboard/raises/<str:what>", page_raises),
    path("admin/", admin.site.urls),
]
