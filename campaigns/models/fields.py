"""Fields of our own."""

from __future__ import annotations

import datetime as dt
import socket  # inet_pton takes a third of the time of ipaddress, on the way of every hit
from functools import lru_cache
from typing import Any

from django import forms
from django.core import exceptions
from django.db import models
from django.utils.dateparse import parse_date, parse_datetime
from django.utils.functional import cached_property

from campaigns.times import from_ms, to_ms


class MillisecondsField(models.BigIntegerField):
    """A moment: an aware datetime in Python, integer milliseconds since 1970 UTC in the database.

    The same number in SQLite, PostgreSQL, spool and SQL of our own, half the bytes of a text, and no zone to get wrong.
    """

    description = "Moment (UTC, milliseconds)"
    _pyi_private_set_type: Any  # django-stubs reads from these what an attribute takes and gives
    _pyi_private_get_type: dt.datetime  # type: ignore[assignment]

    def from_db_value(self, value: int | None, expression: Any, connection: Any) -> dt.datetime | None:
        return None if value is None else from_ms(value)

    def to_python(self, value: Any) -> dt.datetime | None:
        if value is None or value == "":
            return None
        if isinstance(value, dt.datetime):
            return value if value.tzinfo else value.replace(tzinfo=dt.UTC)
        if isinstance(value, dt.date):
            return dt.datetime(value.year, value.month, value.day, tzinfo=dt.UTC)
        if isinstance(value, int):
            return from_ms(value)
        try:
            moment = parse_datetime(str(value))
            if moment is None and (day := parse_date(str(value))):
                moment = dt.datetime(day.year, day.month, day.day)
        except ValueError:
            moment = None
        if moment is None:
            raise exceptions.ValidationError(
                "%(value)s is no date and time, such as 2024-01-15T10:30:00Z", code="invalid", params={"value": value}
            )
        return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)

    def get_prep_value(self, value: Any) -> int | None:
        if value is None or isinstance(value, int):
            return value
        if hasattr(value, "resolve_expression"):
            return value  # type: ignore[no-any-return]
        moment = self.to_python(value)
        return None if moment is None else to_ms(moment)

    @cached_property
    def validators(self) -> list[Any]:  # type: ignore[override]
        """Without those of integers that Django adds: they compare numbers."""
        return list(self._validators)  # type: ignore[attr-defined]

    def value_to_string(self, obj: models.Model) -> str:
        value: Any = self.value_from_object(obj)
        return "" if value is None else str(value.isoformat())

    def formfield(self, **kwargs: Any) -> forms.Field | None:
        return super(models.BigIntegerField, self).formfield(**{"form_class": forms.DateTimeField, **kwargs})


class AddressField(models.BinaryField):
    """An IP address, packed: 4 or 16 bytes. Text in Python."""

    description = "IP address (packed)"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("max_length", 16)
        super().__init__(*args, **kwargs)

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> str | None:
        return None if value is None else unpack_address(bytes(value))

    def get_prep_value(self, value: Any) -> bytes | None:
        return pack_address(value) if isinstance(value, str) else value


@lru_cache(maxsize=4096)
def pack_address(text: str | None, keep: str = "full") -> bytes | None:
    """4 or 16 bytes of an address; None for none and for what is no address.

    `keep` is TRACKING_STORE_IP: `full`; `truncated` zeroes all but the first 24 bits (IPv4) or 48 bits (IPv6); `none`.
    An IPv4 address written as IPv6 (`::ffff:192.0.2.1`) is packed as the IPv4 address it is.
    """
    if not text or keep == "none":
        return None
    try:
        packed = socket.inet_pton(socket.AF_INET6, text) if ":" in text else socket.inet_pton(socket.AF_INET, text)
    except (OSError, ValueError):
        return None
    if packed.startswith(b"\0" * 10 + b"\xff\xff"):
        packed = packed[12:]
    if keep == "truncated":
        packed = packed[:3] + b"\0" if len(packed) == 4 else packed[:6] + b"\0" * 10
    return packed


def unpack_address(packed: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET6 if len(packed) == 16 else socket.AF_INET, packed)
