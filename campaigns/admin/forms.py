"""The admin's forms, checked by the rules that hold everywhere else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from campaigns import rules
from campaigns.models import Campaign, Message
from campaigns.rules import Refused


class JSONText(forms.JSONField):
    """JSON; nested so deep that Python gives up, it is refused like any other text that is none."""

    def to_python(self, value: Any) -> Any:
        try:
            return super().to_python(value)
        except RecursionError:
            raise ValidationError(self.error_messages["invalid"], code="invalid", params={"value": "…"}) from None

    def bound_data(self, data: Any, initial: Any) -> Any:
        try:
            return super().bound_data(data, initial)
        except RecursionError:
            return None


class RulesForm(forms.ModelForm):
    """A form whose fields are checked by the rules that hold everywhere else."""

    checks: dict[str, Callable[[Any], Any]] = {
        "name": rules.check_name,
        "recipient_email": rules.check_email,
        "tracking_token": lambda token: rules.check_token(token) if token else None,
        "template_id": rules.check_template_id,
        "tags": rules.check_tags,
        "metadata": rules.check_metadata,
    }

    class Meta:
        widgets = {name: forms.Textarea(attrs={"rows": 3, "class": "vLargeTextField"}) for name in ("tags", "metadata")}
        field_classes = {"tags": JSONText, "metadata": JSONText}
        help_texts = {"tags": 'A JSON list, such as ["newsletter", "2024"].', "metadata": "A JSON object of at most 4 KB."}

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        for field in list(cleaned):
            try:
                cleaned[field] = self.checks[field](cleaned[field]) if field in self.checks else cleaned[field]
            except Refused as error:
                text = str(error)
                self.add_error(field, text[:1].upper() + text[1:] + ".")
        return cleaned

    def changes(self) -> dict[str, Any]:
        return {name: self.cleaned_data[name] for name in self.changed_data}


class CampaignForm(RulesForm):
    archived = forms.BooleanField(required=False, help_text="Hidden from the dashboard's list; counted all the same.")

    class Meta(RulesForm.Meta):
        model = Campaign
        fields = ["name", "template_id", "tags", "metadata"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "archived" in self.fields:
            self.fields["archived"].initial = self.instance.archived_at is not None


class MessageForm(RulesForm):
    class Meta(RulesForm.Meta):
        model = Message
        fields = ["campaign", "recipient_email", "tracking_token", "template_id", "tags", "metadata"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "tracking_token" in self.fields:
            self.fields["tracking_token"].required = False
            self.fields["tracking_token"].help_text = "Left empty, one is made."
