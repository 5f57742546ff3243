"""Filters by tag and by metadata, the same on both databases."""

from __future__ import annotations

import json
import re
from typing import Any, Self, TypeVar

from django.db import connections, models
from django.db.models import F, Func, Q

M = TypeVar("M", bound=models.Model)
#: A number of JSON that both databases can hold exactly or as a float.
_NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,17})(?:\.\d{1,17})?(?:[eE][+-]?\d{1,2})?")


class AnyItem(Func):
    """Whether an element of a JSON array or object fulfils a condition on json_each's columns (SQLite)."""

    template = "EXISTS (SELECT 1 FROM json_each(%(expressions)s) AS item WHERE %(condition)s)"
    output_field = models.BooleanField()  # type: ignore[assignment]

    def __init__(self, column: str, condition: str, *values: object) -> None:
        super().__init__(F(column), condition=condition)
        self.values = values

    def as_sql(self, *args: Any, **kwargs: Any) -> tuple[str, Any]:
        sql, params = super().as_sql(*args, **kwargs)
        return sql, (*params, *self.values)


class LabelledQuerySet(models.QuerySet[M]):
    """Rows with `tags` (a list of texts) and `metadata` (an object)."""

    def tagged(self, tag: str) -> Self:
        """Those with exactly this tag."""
        if connections[self.db].vendor == "postgresql":
            return self.filter(tags__contains=[tag])
        return self.filter(AnyItem("tags", "item.value = %s", tag))

    def with_metadata(self, key: str, value: str) -> Self:
        """Those whose metadata have this value under this key: the text itself, or a number, true or false written as text."""
        number = json.loads(value) if _NUMBER.fullmatch(value) else None
        if connections[self.db].vendor == "postgresql":
            wanted = Q(metadata__contains={key: value})
            if number is not None or value in ("true", "false"):
                wanted |= Q(metadata__contains={key: json.loads(value)})
            return self.filter(wanted)
        condition = (
            "item.key = %s AND (item.type = 'text' AND item.value = %s OR item.type IN ('true', 'false') AND item.type = %s"
            " OR item.type IN ('integer', 'real') AND item.value = %s)"
        )
        return self.filter(AnyItem("metadata", condition, key, value, value, number))
