from __future__ import annotations

import logging
import os
import time

import pytest
from django.conf import settings

if not os.environ.get("CI"):
    pytest.importorskip("redis", reason="the package redis is missing (pip install -e '.[redis]')")

from tests.services import RedisServer, redis_server
from tests.tracking.running import free_port
from trackingsite import cache as cache_module
from trackingsite.cache import RedisCacheOrNone

__all__ = ["redis_server"]


def make(url: str) -> RedisCacheOrNone:
    return RedisCacheOrNone(url, {"KEY_PREFIX": "tracking"})


def test_it_is_djangos_cache_shared_by_all_who_name_the_redis(redis_server: RedisServer) -> None:
    import redis

    one, other = make(redis_server.url), make(redis_server.url)
    one.set_many({"a": [1, "ä"], "n": 5})
    assert other.get_many(["a", "n", "none"]) == {"a": [1, "ä"], "n": 5}
    assert (other.incr("n"), one.add("a", 2), "a" in other) == (6, False, True)
    assert sorted(redis.Redis.from_url(redis_server.url, protocol=2).keys()) == [b"tracking:1:a", b"tracking:1:n"]
    one.delete_many(["a", "n"])
    assert other.get("a", "gone") == "gone"


def test_with_redis_away_nothing_is_cached_and_nobody_waits_or_fails(caplog: pytest.LogCaptureFixture) -> None:
    cache = make(f"redis://:secret@127.0.0.1:{free_port()}/0")
    began = time.monotonic()
    with caplog.at_level(logging.WARNING):
        cache.set("a", 1)
        assert (cache.get("a"), cache.get("a", "default"), cache.add("a", 1), cache.has_key("a")) == (None, "default", True, False)
        assert (cache.get_many(["a", "b"]), cache.set_many({"a": 1}), cache.touch("a"), cache.delete("a")) == ({}, [], False, False)
        assert cache.get_or_set("a", lambda: 7) == 7
        cache.delete_many(["a"])
        cache.clear()
        with pytest.raises(ValueError, match="not found"):
            cache.incr("a")
    assert time.monotonic() - began < 2
    [line] = [record.getMessage() for record in caplog.records]
    assert line.startswith("the cache is away")
    assert "secret" not in line


def test_it_is_used_again_when_redis_is_back(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "RETRY_SECONDS", 0.0)
    cache = make(redis_server.url)
    cache.set("a", 1)
    redis_server.kill()
    assert cache.get("a") is None
    redis_server.start()
    cache.set("a", 2)
    assert cache.get("a") == 2


def test_without_a_setting_it_is_in_the_process_and_sessions_are_in_the_database() -> None:
    assert settings.CACHES["default"]["BACKEND"].endswith("LocMemCache")
    assert settings.SESSION_ENGINE.endswith(".db")
