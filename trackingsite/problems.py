"""Errors: RFC 9457 problem details for programs, pages for browsers."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from django.conf import settings
from django.core.exceptions import DisallowedHost, PermissionDenied, RequestDataTooBig
from django.core.exceptions import ValidationError as ModelValidationError
from django.db import DataError, InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.template.loader import render_to_string
from rest_framework import exceptions

from campaigns.rules import Refused

logger = logging.getLogger("tracking.problems")

NOTHING_HERE = "There is nothing at this address."
#: What may happen to any view without being its mistake: status and what to tell.
FORESEEN: tuple[tuple[tuple[type[Exception], ...], int, str], ...] = (
    ((OperationalError, InterfaceError), 503, "The database does not answer. Try again in a moment."),
    ((DataError, OverflowError), 400, "A value is larger than any that could be stored, or has characters that cannot be."),
    ((RequestDataTooBig,), 413, f"The body is larger than {settings.DATA_UPLOAD_MAX_MEMORY_SIZE // 1024**2} MB."),
    ((DisallowedHost,), 400, "The Host of the request is none of those allowed (TRACKING_ALLOWED_HOSTS)."),
)


def problem(status: int, detail: str, *, title: str | None = None, **extra: Any) -> JsonResponse:
    """An error as `application/problem+json`: type, title, status, detail, and what else is given."""
    content = {"type": "about:blank", "title": title or HTTPStatus(status).phrase, "status": status, "detail": detail, **extra}
    response = JsonResponse(content, status=status, content_type="application/problem+json")
    if status == 503:
        response["Retry-After"] = "1"
    return response


def exception_handler(error: Exception, context: dict[str, Any]) -> HttpResponse | None:
    """What DRF and our own rules raise, as problems; None, which becomes a 500, for what nobody foresaw.

    Wrong input has `errors`, one `{"field", "detail"}` for each: a dotted path for what lies deeper, null for the whole.
    """
    if isinstance(error, exceptions.ValidationError):
        return _invalid(error.detail)
    if isinstance(error, ModelValidationError):
        return _invalid(error.message_dict if hasattr(error, "error_dict") else error.messages)
    if isinstance(error, Refused):
        extra: dict[str, Any] = {"errors": [{"field": error.field, "detail": str(error)}]} if error.field else {}
        return problem(error.status, str(error), **extra)
    if isinstance(error, Http404):
        return problem(404, str(error) or NOTHING_HERE)
    if isinstance(error, PermissionDenied):
        return problem(403, str(error) or "This is not allowed.")
    if isinstance(error, exceptions.APIException):
        return _from_rest_framework(error, context)
    if foreseen := _foreseen(error):
        return problem(*foreseen)
    return None


def _from_rest_framework(error: exceptions.APIException, context: dict[str, Any]) -> HttpResponse:
    detail = str(error.detail)
    access = getattr(context.get("request"), "access", None)
    if access is not None and isinstance(error, exceptions.NotAuthenticated):
        detail = access.refusal or detail
    response = problem(error.status_code, detail)
    if header := getattr(error, "auth_header", None):
        response["WWW-Authenticate"] = header
    if (wait := getattr(error, "wait", None)) is not None:
        response["Retry-After"] = str(int(wait))
    return response  # a 405 gets its Allow from the view


def _invalid(detail: Any) -> HttpResponse:
    errors = list(_each(detail))
    told = [f"{field}: {text}" if field else str(text) for field, text in (error.values() for error in errors[:3])]
    more = [f"and {len(errors) - 3} more"] if len(errors) > 3 else []
    return problem(400, " ".join(told + more), errors=errors)


def _each(detail: Any, field: str | None = None) -> Iterator[dict[str, str | None]]:
    """The errors of a nested structure of DRF's or of a model's, with the path to each."""
    if isinstance(detail, dict):
        for name, inner in detail.items():
            whole = name in ("non_field_errors", "__all__")
            yield from _each(inner, field if whole else f"{field}.{name}" if field else str(name))
    elif isinstance(detail, list | tuple):
        for index, inner in enumerate(detail):
            deeper = isinstance(inner, dict | list | tuple)
            yield from _each(inner, (f"{field}.{index}" if field else str(index)) if deeper else field)
    else:
        yield {"field": field, "detail": str(detail)}


def _foreseen(error: BaseException | None) -> tuple[int, str] | None:
    for kinds, status, text in FORESEEN:
        if isinstance(error, kinds):
            if status == 503:
                logger.error("the database does not answer: %s", str(error).strip())
            return status, text
    return None


# -- Django's handlers, for all addresses


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    return answer(request, *(_foreseen(exception) or (400, "The request could not be understood.")))


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    return answer(request, 403, str(exception) or "This is not allowed.")


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:  # noqa: ARG001  Django names it so
    return answer(request, 404, NOTHING_HERE)


def server_error(request: HttpRequest) -> HttpResponse:
    return answer(request, *(_foreseen(sys.exc_info()[1]) or (500, "Something went wrong on our side. The server's log says what.")))


def answer(request: HttpRequest, status: int, detail: str) -> HttpResponse:
    """A page for a browser, a problem for anything else. The page asks no database: it may be what failed."""
    if not wants_page(request):
        return problem(status, detail)
    template = f"{status}.html" if status in (403, 404, 500) else "500.html" if status > 500 else "400.html"
    response = HttpResponse(render_to_string(template, {"status": status, "detail": detail}), status=status)
    if status == 503:
        response["Retry-After"] = "1"
    return response


def wants_page(request: HttpRequest) -> bool:
    """Whether a browser is looking: it takes HTML, and the address is none of the API's or the webhooks'."""
    return "text/html" in request.headers.get("Accept", "") and not request.path_info.startswith(("/api/", "/webhooks/"))
