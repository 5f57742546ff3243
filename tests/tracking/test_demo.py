from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from campaigns import queries
from campaigns.recount import recount
from tests.tracking.running import RunningServer
from tracking import demo, prepare


@pytest.mark.django_db
def test_the_demo_is_made_once_and_its_numbers_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "start", lambda: None)
    assert demo.main() == 0
    totals = queries.totals()
    assert (totals.campaigns, totals.total) == (3, 1760)
    assert totals.clicked > 0 < totals.bounced
    assert all(recount(campaign.pk) == {} for campaign in queries.campaigns())
    assert demo.main() == 0
    assert queries.totals() == totals


@pytest.mark.server
def test_the_demo_makes_its_folder_and_its_database_and_keeps_both_to_its_owner(tmp_path: Path) -> None:
    server = RunningServer(tmp_path, TRACKING_DB_PATH=str(tmp_path / "new" / "demo.db"))
    subprocess.run([sys.executable, "-m", "tracking.demo"], env=server.environment(), check=True, timeout=60)
    assert (tmp_path / "new" / "demo.db").stat().st_mode & 0o077 == 0
