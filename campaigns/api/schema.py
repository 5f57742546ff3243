"""What the OpenAPI schema says beyond the shapes: a summary of every operation, and how errors look."""

from __future__ import annotations

from typing import Any, Literal

from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import force_instance
from drf_spectacular.utils import OpenApiParameter, extend_schema_serializer
from rest_framework import serializers

from campaigns.api.serializers import Body

PROBLEM_JSON = "application/problem+json"
#: Statuses with their reasons, by what an operation has: an id in its address, a body, a token to take.
ALWAYS = {
    "400": "Something in the request is wrong; `detail` says what.",
    "401": "An API key is needed; `detail` says how to get in.",
    "403": "The API key lacks the scope this needs.",
    "503": "The database does not answer; try again after `Retry-After` seconds.",
}
WITH_ID = {"404": "There is nothing with this id."}
WITH_BODY = {"413": "The body is too large.", "415": "The body is not `application/json`."}
WITH_TOKEN = {"409": "The tracking_token is taken."}

METADATA = OpenApiParameter(
    "metadata.KEY",
    str,
    description="The value of `KEY` in the metadata: a text, or a number, true or false as text. KEY stands for any key.",
)


class FieldProblem(serializers.Serializer[Any]):
    field = serializers.CharField(allow_null=True)
    detail = serializers.CharField()


@extend_schema_serializer(component_name="Problem")
class ProblemSerializer(serializers.Serializer[Any]):
    """An error (RFC 9457)."""

    type = serializers.CharField(help_text="about:blank: the status says it all")
    title = serializers.CharField(help_text="of the status")
    status = serializers.IntegerField(help_text="as in the first line of the answer")
    detail = serializers.CharField(help_text="what is wrong, and what would be right")
    errors = FieldProblem(many=True, required=False, help_text="by field, where fields are wrong")  # type: ignore[assignment]


class ApiSchema(AutoSchema):
    """The first line of an action's docstring is its summary, the rest its description."""

    def get_summary(self) -> str | None:
        return self._documentation()[0].rstrip(".") or None

    def get_description(self) -> str:  # type: ignore[override]
        return self._documentation()[1]

    def _documentation(self) -> tuple[str, str]:
        action = getattr(self.view, getattr(self.view, "action", None) or self.method.lower())
        lines = [line.strip() for line in (action.__doc__ or "").strip().splitlines()]
        return (lines[0] if lines else ""), "\n".join(lines[1:]).strip()

    def _map_serializer(self, serializer: Any, direction: Any, bypass_extensions: bool = False) -> Any:
        mapped = super()._map_serializer(serializer, direction, bypass_extensions)  # type: ignore[no-untyped-call]
        is_body = isinstance(force_instance(serializer), Body)  # type: ignore[no-untyped-call]
        return mapped | {"additionalProperties": False} if is_body else mapped

    def _get_response_bodies(self, direction: Literal["request", "response"] = "response") -> dict[str, Any]:
        bodies: dict[str, Any] = super()._get_response_bodies(direction)
        reasons = dict(ALWAYS)
        if "{" in self.path:
            reasons |= WITH_ID
        if self.method in ("POST", "PATCH"):
            reasons |= WITH_BODY
        if self.method == "POST" and self.path in ("/api/messages", "/api/messages/bulk"):
            reasons |= WITH_TOKEN | WITH_ID
        for status, reason in sorted(reasons.items()):
            body = self._get_response_for_code(ProblemSerializer, status, media_types=[PROBLEM_JSON])  # type: ignore[no-untyped-call]
            bodies[status] = body | {"description": reason}
        return bodies
