"""Pixel, links and health: what the world may ask without a key. The rules are in `tracking.hits`; here they meet Django."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import orjson
from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.template.loader import render_to_string
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_safe

from campaigns.events import now_ms
from campaigns.tokens import is_token
from tracking.brief_queries import NO_ANSWER, is_known
from tracking.hits.pixel import PIXEL, pixel_line
from tracking.hits.redirect import TrackedLink, click_line, is_signed, read_link, redirect_answer
from tracking.hits.request import NO_STORE, Answer, HitRequest, hit_request
from tracking.keys import reload_keys, signing_keys
from tracking.readiness import readiness
from tracking.spool.writer import process_writer
from tracking.targets import BadTarget, has_userinfo, host_matches, host_of, normalise_target

#: Seconds after which to ask again while the database is away.
RETRY_AFTER = "10"

_JSON = (("Content-Type", "application/json"), NO_STORE)
#: What a program is told of a link that leads nowhere. People get a page of more words, `tracking/refused.html`.
REFUSED = {
    "incomplete": "The link has no url.",
    "target": "The url is no web page that a link may lead to.",
    "unknown": "The link is not one that we sent.",
    "away": "The database does not answer. Try again in a moment.",
}
HEALTHY = Answer(200, _JSON, b'{"status":"healthy"}')


@csrf_exempt  # no method of these changes anything for a session; a wrong one is a 405
@require_safe
def pixel(request: HttpRequest, token: str) -> HttpResponse:
    """The picture. What goes wrong behind it never shows."""
    hit = _facts(request)
    line = pixel_line(token, now_ms(), hit.ip, hit.told)
    if line is not None:
        _spool(line)
    return _send(request, PIXEL)


# A POST is the button of the page that asks. There is nothing to forge: whoever could make a browser send it could as well link
# to where it leads; it uses no session; and a token against it would need a cookie in the browser of a mail's reader.
@csrf_exempt
@require_http_methods(["GET", "HEAD", "POST"])
def redirect(request: HttpRequest, token: str) -> HttpResponse:
    """To where the link leads: at once if we signed it, by the setting if nobody did, never if the signature is wrong."""
    hit = _facts(request)
    link = read_link(token, hit.query)
    if link.url is None:
        return _refuse(request, "incomplete", 400)
    try:
        target = normalise_target(link.url)
    except BadTarget:
        return _refuse(request, "target", 400)
    if link.signature is None:
        return _unsigned(request, hit, link, target)
    if request.method == "POST":
        return HttpResponseNotAllowed(["GET", "HEAD"])
    try:
        # Another process may have made a newer key than this one knows.
        signed = is_signed(link, signing_keys()) or is_signed(link, reload_keys())
    except NO_ANSWER:  # and no key in the keys file either
        return _away(request)
    return _follow(request, hit, link, target) if signed else _refuse(request, "unknown", 404)


def _unsigned(request: HttpRequest, hit: HitRequest, link: TrackedLink, target: str) -> HttpResponse:
    straight = host_matches(host_of(target), settings.CONF.redirect_hosts)
    rule = "allow" if straight else settings.CONF.unsigned_links
    if request.method == "POST" and rule != "confirm":
        return HttpResponseNotAllowed(["GET", "HEAD"])
    if has_userinfo(target):
        return _refuse(request, "target", 400)
    if rule == "refuse" or not is_token(link.token):
        return _refuse(request, "unknown", 404)
    try:
        known = is_known(link.token)
    except NO_ANSWER:
        return _away(request)
    if not known:
        _record(hit, link, target)  # ingestion counts it as one on an unknown token
        return _refuse(request, "unknown", 404)
    if rule == "confirm" and request.method != "POST":
        return _ask(target)
    return _follow(request, hit, link, target)


def _follow(request: HttpRequest, hit: HitRequest, link: TrackedLink, target: str) -> HttpResponse:
    return _send(request, redirect_answer(target, tracked=_record(hit, link, target)))


def _record(hit: HitRequest, link: TrackedLink, target: str) -> bool:
    return _spool(click_line(link, target, now_ms(), hit.ip, hit.told))


def _spool(line: bytes) -> bool:
    return process_writer(settings.CONF.spool_dir, settings.CONF.spool_fsync).append(line)


# -- health


@csrf_exempt
@require_safe
def health(request: HttpRequest) -> HttpResponse:
    """Whether the process lives. Asks nothing and nobody."""
    return _send(request, HEALTHY)


@csrf_exempt
@require_safe
def ready(request: HttpRequest) -> HttpResponse:
    """Whether everything works: a word for everybody (`ready`, `degraded`, `unready`), the details for who may read."""
    state = readiness()
    told: dict[str, Any] = {"status": state.word}
    if _may_read(request):
        told |= state.details()
    response = _send(request, Answer(200 if state.ready else 503, _JSON, orjson.dumps(told)))
    if not state.ready:
        response["Retry-After"] = RETRY_AFTER
    return response


def _may_read(request: HttpRequest) -> bool:
    try:
        return bool(request.access.allowed)  # type: ignore[attr-defined]
    except NO_ANSWER:  # keys are in the database
        return False


# -- between Django and the pure functions


def _facts(request: HttpRequest) -> HitRequest:
    headers = {name.lower(): value for name, value in request.headers.items()}
    query = request.META.get("QUERY_STRING", "").encode("latin-1", "replace")
    peer = request.META.get("REMOTE_ADDR", "")
    return hit_request(request.method or "GET", query, headers, peer, settings.CONF.trusted_proxies)


def _send(request: HttpRequest, answer: Answer) -> HttpResponse:
    # The body of a HEAD is left out here: servers warn of bytes that they have to drop.
    response = HttpResponse(b"" if request.method == "HEAD" else answer.body, status=answer.status)
    for name, value in answer.headers:
        response[name] = value
    response["Content-Length"] = str(len(answer.body))
    # Neither a picture nor JSON is a page: policies for pages would only make the answer longer.
    response._csp_exempt = response.xframe_options_exempt = True  # type: ignore[attr-defined]
    return response


def _refuse(request: HttpRequest, reason: str, status: int) -> HttpResponse:
    """A page for who may be a person, a problem (RFC 9457) for who asks for JSON and not for HTML."""
    accept = request.headers.get("Accept", "").lower()
    if "json" in accept and "text/html" not in accept:
        problem = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": REFUSED[reason]}
        response = _send(request, Answer(status, (("Content-Type", "application/problem+json"), NO_STORE), orjson.dumps(problem)))
    else:
        response = _page("tracking/refused.html", status, reason=reason)
    response["Vary"] = "Accept"
    return response


def _away(request: HttpRequest) -> HttpResponse:
    response = _refuse(request, "away", 503)
    response["Retry-After"] = RETRY_AFTER
    return response


def _ask(target: str) -> HttpResponse:
    response = _page("tracking/confirm.html", 200, target=target)
    # Chromium holds `form-action` against the redirect after the form as well.
    response._csp_update = {"form-action": ["https:", "http:"]}  # type: ignore[attr-defined]
    return response


def _page(template: str, status: int, **context: Any) -> HttpResponse:
    # Rendered without the request: context processors would look for a session.
    response = HttpResponse(render_to_string(template, context), status=status)
    response[NO_STORE[0]] = NO_STORE[1]
    return response
