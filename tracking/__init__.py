"""Email tracking. `from tracking import Database` is its Python."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tracking.database import Database as Database
else:

    def __getattr__(name: str) -> object:
        if name == "Database":
            from tracking.database import Database

            return Database
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
