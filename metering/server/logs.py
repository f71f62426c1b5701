"""Log lines: text for people, or one JSON object per line for machines. No other module configures logging."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Literal

from metering.core.request_id import current_request_id

# The attributes of every LogRecord. All others come from `extra=` and are printed.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


def _extra(record: logging.LogRecord) -> dict[str, object]:
    extra = {key: value for key, value in vars(record).items() if key not in _STANDARD}
    request_id = current_request_id()
    return extra if request_id is None else {**extra, "request_id": request_id}


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S.%f")[:-3]
        pairs = "".join(f" {key}={value}" for key, value in _extra(record).items() if not key.startswith("data"))
        line = f"{when} {record.levelname.lower():<7} {record.name}: {record.getMessage()}{pairs}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_extra(record),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


def configure_logging(*, log_format: Literal["text", "json"], level: int = logging.INFO) -> None:
    """Send all logs to stderr in one format; chatty libraries only log from WARNING on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter() if log_format == "json" else _TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for chatty in ("uvicorn.access", "httpx2", "httpcore2", "alembic", "celery", "kombu"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    mute_repetitions()


def mute_repetitions() -> None:
    """Keep libraries from logging, with tracebacks, that a broken connection could not be closed in order.

    The error was raised to the caller, who reports it.
    """
    for name in ("sqlalchemy.pool", "psycopg"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
