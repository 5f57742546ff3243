"""Django's cache in Redis, which is as good as empty while Redis is away: nobody's request fails for a cache."""

from __future__ import annotations

import logging
import time
from typing import Any

from django.core.cache.backends.base import BaseCache
from django.core.cache.backends.dummy import DummyCache
from django.core.cache.backends.redis import RedisCache

logger = logging.getLogger("trackingsite.cache")

#: While Redis is away it is tried again this often, in seconds; who asks in between does not wait for its time-out.
RETRY_SECONDS = 5.0
#: Time-out of connecting and of each command, in seconds.
PATIENCE = 0.5
WARN_SECONDS = 60.0


class RedisCacheOrNone(RedisCache):
    """What is cached counts as not cached, and what is stored is dropped, while Redis does not answer."""

    def __init__(self, server: str, params: dict[str, Any]) -> None:
        # RESP2: with RESP3 the client would also subscribe to notices of maintenance
        options = {"protocol": 2, "socket_timeout": PATIENCE, "socket_connect_timeout": PATIENCE, **params.pop("OPTIONS", {})}
        super().__init__(server, {**params, "OPTIONS": options})
        self._away_until = self._warned_at = float("-inf")

    def _try(self, name: str, *args: Any, **kwargs: Any) -> Any:
        from redis import RedisError

        if time.monotonic() >= self._away_until:
            try:
                return getattr(RedisCache, name)(self, *args, **kwargs)
            except RedisError as error:
                now = time.monotonic()
                self._away_until = now + RETRY_SECONDS
                if now - self._warned_at >= WARN_SECONDS:
                    self._warned_at = now
                    logger.warning("the cache is away, nothing is cached meanwhile: %s", error)
        nothing = getattr(DummyCache, name) if name in vars(DummyCache) else getattr(BaseCache, name)
        return nothing(self, *args, **kwargs)


def _method(name: str) -> Any:
    def call(self: RedisCacheOrNone, *args: Any, **kwargs: Any) -> Any:
        return self._try(name, *args, **kwargs)

    call.__name__ = name
    return call


for _name in ("add", "get", "set", "touch", "delete", "get_many", "has_key", "incr", "set_many", "delete_many", "clear"):
    setattr(RedisCacheOrNone, _name, _method(_name))
