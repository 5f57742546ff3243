"""Log lines: for people, and as JSON (TRACKING_LOG_FORMAT)."""

from __future__ import annotations

import datetime as dt
import json
import logging

#: What would begin another line, or move a terminal's cursor.
_CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}


class ConsoleFormatter(logging.Formatter):
    """A line for people: time, level, logger, message. What a request sent cannot begin a line of its own."""

    def __init__(self) -> None:
        super().__init__("{asctime} {levelname} {name}: {message}", style="{")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  logging's name
        record.message = record.message.translate(_CONTROL)
        return super().formatMessage(record)


class NotSaidAlready(logging.Filter):
    """Leaves out Django's own word, with a traceback, on a 503: `trackingsite.problems` has said in a line what is away."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.name == "django.request" and getattr(record, "status_code", None) == 503)


class JsonFormatter(logging.Formatter):
    """One object a line: time (UTC), level, logger, message and, where there is one, the traceback."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)
