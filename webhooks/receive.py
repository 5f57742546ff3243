"""The one way in for what others report: bytes → verified → items → events → committed → answer."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from rest_framework.exceptions import PermissionDenied

from campaigns.apply import apply
from campaigns.events import TrackingEvent, now_ms
from campaigns.models import Message
from campaigns.rules import Refused
from campaigns.tokens import is_token
from webhooks.providers.base import Malformed, Provider, Report

logger = logging.getLogger("tracking.webhooks")

#: Bytes of a body. SendGrid sends 768 KB at most.
MAX_BODY = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Received:
    """What became of a request's items: each is counted once."""

    accepted: int = 0
    ignored: int = 0  # of no kind of ours, or of no message of ours
    duplicates: int = 0  # reported before, under the same id
    rejected: int = 0  # no object, or a field of the wrong type or value


def receive(provider: Provider, body: bytes, headers: Mapping[str, str], is_local: Callable[[], bool]) -> Received:
    """Take a request in; when this returns, its events are committed.

    `is_local` says whether the request comes from this machine's own user, which counts only while no secret is configured.
    Raises Refused or an exception of DRF for what is wrong with the request as a whole, OperationalError when the database
    does not answer: nothing is written then, and the provider sends it again.
    """
    if len(body) > MAX_BODY:
        raise Refused(f"The body is larger than {MAX_BODY // 1024**2} MB.", status=413)
    _verify(provider, body, headers, is_local)
    reports, ignored, rejected = _read(provider, _items(provider, body))
    events = _of_our_messages(reports)
    applied = apply(events)
    unknown = len(reports) - len(events) + applied.unknown
    if provider.single and unknown:
        raise Refused("There is no message with this message_id.", field="message_id", status=404)
    return Received(applied.applied, ignored + unknown, applied.duplicates, rejected)


def _verify(provider: Provider, body: bytes, headers: Mapping[str, str], is_local: Callable[[], bool]) -> None:
    if provider.secret:
        provider.verify(headers, body)
    elif not is_local():
        raise PermissionDenied(f"Set {provider.setting} on the server: without it, this webhook takes requests of its own machine only.")


def _items(provider: Provider, body: bytes) -> Sequence[Any]:
    try:
        content = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError):  # deep nesting is no ValueError
        raise Refused("The body is no JSON.") from None
    if isinstance(content, dict):
        return [content]
    if isinstance(content, list) and not provider.single:
        return content
    raise Refused("The body is a JSON object." if provider.single else "The body is a JSON array of events, or one event as a JSON object.")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _read(provider: Provider, items: Iterable[Any]) -> tuple[list[Report], int, int]:
    """Reports, how many items are ignored, how many rejected. One bad item costs no other."""
    reports: list[Report] = []
    ignored, problems, received_at = 0, [], now_ms()
    for item in items:
        try:
            if not isinstance(item, dict):
                raise Malformed("an event is a JSON object")
            report = provider.read(item, received_at)
        except Malformed as error:
            if provider.single:
                raise Refused(f"{error}.", field=error.field) from None
            problems.append(error)
        else:
            if report is None:
                ignored += 1
            else:
                reports.append(report)
    if problems:
        logger.warning("%s: rejected items: %d, the first because %s", provider.name, len(problems), problems[0])
    return reports, ignored, len(problems)


def _of_our_messages(reports: Sequence[Report]) -> list[TrackingEvent]:
    """The events whose message is named by its id, or by a token that there is: of several, the first.

    Those that stand first are looked up first. Nearly always they are known, and the rest (three of four) are not even read.
    """
    nameless = [report for report in reports if report.event.message_id is None]
    while nameless:
        said = [(report, token) for report in nameless if (token := next(report.tokens, None)) is not None]
        tokens = sorted({token for _, token in said if is_token(token)})
        ids = dict(Message.objects.living().with_tokens(tokens).values_list("tracking_token", "id")) if tokens else {}
        for report, token in said:
            report.event.message_id = ids.get(token)
        nameless = [report for report, _ in said if report.event.message_id is None]
    return [report.event for report in reports if report.event.message_id is not None]
