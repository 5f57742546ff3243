"""What every provider must have."""

from __future__ import annotations

from pathlib import Path

import pytest

from campaigns.choices import SOURCE_NUMBER
from tracking.conf import DEFAULTS, PROJECT_ROOT
from webhooks import providers
from webhooks.providers import PROVIDERS, Provider

DOCS = (PROJECT_ROOT / "docs" / "webhooks.md").read_text()


@pytest.mark.parametrize("provider", PROVIDERS, ids=lambda provider: provider.name)
def test_a_provider_is_a_source_has_a_secret_and_is_documented(provider: Provider) -> None:
    assert provider.name in SOURCE_NUMBER
    assert provider.setting in DEFAULTS
    assert f"/webhooks/{provider.name}" in DOCS
    assert provider.setting in DOCS
    assert not [word for word in provider.kinds if f"`{word}`" not in DOCS]


def test_every_module_of_a_provider_has_its_line() -> None:
    modules = {path.stem for path in Path(providers.__file__).parent.glob("*.py")} - {"__init__", "base"}
    assert {type(provider).__module__.rpartition(".")[2] for provider in PROVIDERS} == modules
