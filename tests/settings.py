"""The settings of the service, read from an environment of the tests' own.

Tests never see the settings, the `.env` or the data of whoever runs them.

`TRACKING_TEST_DATABASE_URL=postgresql://…` runs the same tests on PostgreSQL.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

from tracking.conf import DEFAULTS

for name, default in DEFAULTS.items():
    os.environ[name] = default

FOLDER = tempfile.mkdtemp(prefix="tracking-tests-")
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)

os.environ["TRACKING_DB_PATH"] = f"{FOLDER}/tracking.db"
if url := os.environ.get("TRACKING_TEST_DATABASE_URL"):
    os.environ["TRACKING_DATABASE_URL"] = url
    os.environ["TRACKING_SECRET_KEY"] = "a-secret-for-tests-only-" + "x" * 40
    os.environ["TRACKING_DATA_DIR"] = f"{FOLDER}/data"

from trackingsite.settings import *  # noqa: E402, F403

#: Programs that tests start are the service itself.
os.environ["DJANGO_SETTINGS_MODULE"] = "trackingsite.settings"
