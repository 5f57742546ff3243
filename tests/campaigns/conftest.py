from __future__ import annotations

import pytest
from django.test import Client

from tests.campaigns.calls import Api


@pytest.fixture
def api(client: Client) -> Api:
    return Api(client)
