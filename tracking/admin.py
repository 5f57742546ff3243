"""The admin's pages of what arrives."""

from __future__ import annotations

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from campaigns.admin.base import ReadOnlyAdmin, moment
from tracking.ingest import dead_letters
from tracking.models import DeadLetter, IngestCount, LinkKey, SpoolPosition


@admin.register(SpoolPosition)
class SpoolPositionAdmin(ReadOnlyAdmin):
    list_display = ["segment", "position"]
    search_fields = ["segment"]


@admin.register(IngestCount)
class IngestCountAdmin(ReadOnlyAdmin):
    list_display = ["name", "n"]
    search_fields = ["name"]


@admin.register(DeadLetter)
class DeadLetterAdmin(ReadOnlyAdmin):
    """Deleting purges; replaying tries again."""

    list_display = ["segment", "position", moment("created_at"), "error"]
    search_fields = ["segment", "error"]
    fields = ["segment", "position", moment("created_at"), "error", "text"]
    actions = ["replay"]

    def has_delete_permission(self, request: HttpRequest, obj: DeadLetter | None = None) -> bool:
        return bool(request.user.has_perm("tracking.delete_deadletter"))

    def has_replay_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("tracking.change_deadletter"))

    @admin.display(description="line")
    def text(self, letter: DeadLetter) -> str:
        return bytes(letter.line).decode(errors="backslashreplace")

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[DeadLetter]) -> None:
        dead_letters.purge(queryset)

    @admin.action(description="Replay selected dead letters", permissions=["replay"])
    def replay(self, request: HttpRequest, queryset: QuerySet[DeadLetter]) -> None:
        done = dead_letters.replay(queryset)
        level = messages.WARNING if done.failed else messages.SUCCESS
        self.message_user(request, f"{done.applied} applied, {done.unknown} of unknown tokens, {done.failed} failed again.", level)


@admin.register(LinkKey)
class LinkKeyAdmin(ReadOnlyAdmin):
    """When keys were made, never the keys: who has one can sign links to anywhere."""

    list_display = ["__str__", moment("created_at")]
    fields = [moment("created_at")]
