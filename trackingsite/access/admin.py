from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from trackingsite.access import keys
from trackingsite.access.models import SCOPES, ApiKey


class ApiKeyForm(forms.ModelForm):
    scopes = forms.MultipleChoiceField(
        choices=[(scope, scope) for scope in SCOPES],
        initial=list(SCOPES),
        widget=forms.CheckboxSelectMultiple,
        help_text="read: GET. write: every other method. send: handing mail over to be sent.",
    )

    class Meta:
        model = ApiKey
        fields = ["name", "scopes", "expires_at"]


@admin.register(ApiKey)
class ApiKeyAdmin(admin.ModelAdmin):
    """Make and revoke keys. Only the name of one that is made can be changed, and none can be deleted: revoked ones count."""

    form = ApiKeyForm
    list_display = ["name", "shown_prefix", "shown_scopes", "state", "created_at", "expires_at", "revoked_at"]
    search_fields = ["name", "prefix"]
    list_filter = [("revoked_at", admin.EmptyFieldListFilter)]
    actions = ["revoke"]

    @admin.display(description="begins with", ordering="prefix")
    def shown_prefix(self, key: ApiKey) -> str:
        return f"etk_{key.prefix}_"

    @admin.display(description="scopes")
    def shown_scopes(self, key: ApiKey) -> str:
        return " ".join(key.scopes)

    def get_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> list[Any]:
        return ["name", "scopes", "expires_at"] if obj is None else ["name", *self._fixed]

    def get_readonly_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> list[str]:
        return [] if obj is None else self._fixed

    _fixed = ["shown_prefix", "shown_scopes", "state", "created_at", "expires_at", "revoked_at"]

    def has_delete_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: bool) -> None:
        if change:
            obj.save(update_fields=["name"])
            return
        text = keys.mint(obj)
        obj.save(force_insert=True)
        messages.warning(request, f"The key is {text} — copy it now, it is shown only this once.")

    @admin.action(description="Revoke the selected keys", permissions=["change"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        chosen = list(queryset.filter(revoked_at=None))
        for key in chosen:
            keys.revoke(key)
        messages.success(request, f"{len(chosen)} revoked: they are refused from now on.")
