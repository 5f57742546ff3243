"""What every provider is made of: who may report (`verify`), what its words mean (`kinds`), what an item says (`read`)."""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from django.conf import settings
from rest_framework.exceptions import AuthenticationFailed

from campaigns.events import EventKind, TrackingEvent
from campaigns.times import MAX_AHEAD

#: Seconds until the year 5138; from there on a number must be milliseconds (those begin in 1973).
_FIRST_MILLISECONDS = 10**11
_NO_TIME = 10**14
_NUMBER = re.compile(r"\d{1,20}(\.\d{1,20})?", re.ASCII)


class Malformed(ValueError):
    """An item that has a field of the wrong type or value. The text says which."""

    def __init__(self, text: str, *, field: str | None = None) -> None:
        super().__init__(text)
        self.field = field


@dataclass(slots=True)
class Report:
    """What one item says, of the message with `event.message_id`, or else the one that has the first of `tokens` that there is.

    The tokens can be read once.
    """

    event: TrackingEvent
    tokens: Iterator[str] = field(default_factory=lambda: iter(()))


class Provider:
    """Who reports events to `/webhooks/<name>`. One module and one line in `webhooks.providers` each."""

    #: The last part of the address, and the word in `campaigns.choices.Source`.
    name: ClassVar[str]
    #: The name of the setting that holds the secret.
    setting: ClassVar[str]
    #: The provider's words for what happens. What is not here is none of ours.
    kinds: ClassVar[Mapping[str, EventKind]]
    #: Whether a request is one report: what is wrong with the report then is wrong with the request.
    single: ClassVar[bool] = False

    @property
    def secret(self) -> str:
        """The configured secret; "" where there is none."""
        return settings.CONF.text(self.setting)

    def verify(self, headers: Mapping[str, str], body: bytes) -> None:
        """Raise unless the request comes from who knows the secret. Called before anything of the body is read."""
        check_shared_secret(self.secret, headers)

    def read(self, item: dict[str, Any], received_at: int) -> Report | None:
        """What an item says; None where it is none of our kinds. Raises Malformed."""
        raise NotImplementedError


def check_shared_secret(secret: str, headers: Mapping[str, str]) -> None:
    """Raises AuthenticationFailed unless one of the three headers carries the secret."""
    if not any(hmac.compare_digest(sent, secret.encode(errors="surrogateescape")) for sent in _sent_secrets(headers)):
        raise AuthenticationFailed("Send this webhook's secret as HTTP Basic password, `Authorization: Bearer` or `X-Webhook-Secret`.")


def _sent_secrets(headers: Mapping[str, str]) -> Iterator[bytes]:
    """Whatever might be the secret. WSGI decodes the bytes of a header as Latin-1."""
    yield headers.get("X-Webhook-Secret", "").encode("latin-1", "replace")
    scheme, _, credentials = headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        yield credentials.strip().encode("latin-1", "replace")
    elif scheme.lower() == "basic":
        try:
            yield base64.b64decode(credentials.strip()).partition(b":")[2]
        except ValueError:
            return


def text(item: Mapping[str, Any], name: str) -> str | None:
    """A text of an item, None where it has none. Raises Malformed."""
    value = item.get(name)
    if value is None or isinstance(value, str):
        return value or None
    raise Malformed(f"{name} is a text", field=name)


def moment(item: Mapping[str, Any], name: str, received_at: int) -> int:
    """A time of an item in UTC milliseconds: seconds or milliseconds since 1970 as number or text, `received_at` where there is none.

    A clock that is more than a day ahead is not believed: the event happened when we heard of it. Raises Malformed.
    """
    value = item.get(name)
    if value is None:
        return received_at
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = float(value)
    if type(value) not in (int, float) or not 0 < value < _NO_TIME:  # type() tells True from 1
        raise Malformed(f"{name} is a time in seconds since 1970", field=name)
    milliseconds = int(value if value >= _FIRST_MILLISECONDS else value * 1000)
    return milliseconds if milliseconds <= received_at + MAX_AHEAD else received_at
