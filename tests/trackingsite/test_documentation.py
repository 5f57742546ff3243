"""What is not documented does not pass."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.conf import settings

from campaigns.events import EventKind
from campaigns.models import Message
from campaigns.status import COUNTED
from tests.trackingsite import api_reference

ROOT = Path(settings.BASE_DIR)
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def test_the_list_of_addresses_is_current() -> None:
    assert api_reference.PAGE.read_text() == api_reference.page()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)):
        if not target.startswith(("http:", "https:", "mailto:")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_kind_of_event_is_in_the_glossary() -> None:
    glossary = (ROOT / "docs" / "glossary.md").read_text()
    assert [kind for kind in EventKind if kind not in glossary] == []


def test_tables_and_columns_have_the_names_that_people_type() -> None:
    columns = {field.column for field in Message._meta.concrete_fields}
    assert {"id", "campaign_id", "recipient_email", "tracking_token", "status", "sent_at", "bounce_type", "diagnostic_code"} <= columns
    assert Message._meta.db_table == "messages"
    assert "bounced" in COUNTED


def test_the_documentation_shows_real_pictures() -> None:
    for name in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", (ROOT / "README.md").read_text()):
        assert (ROOT / name).read_bytes().startswith(b"\x89PNG"), name
