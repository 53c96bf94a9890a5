"""Logs: one structlog configuration for every process, with nothing in them that people wrote or that opens doors."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

SECRET_KEYS = frozenset(
    {
        "text", "words", "body", "message", "token", "authorization", "signature", "password", "secret", "nonce",
        "headers", "arguments", "reason_given",
    }
)  # fmt: skip
"""Event fields that are never written, whoever adds them."""


def redact(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor that blanks fields which may hold people's words or secrets."""
    for key in event:
        if key.lower() in SECRET_KEYS:
            event[key] = "[redacted]"
    return event


def configure_logs(log_format: str, process: str) -> None:
    """Send structlog and the standard library's loggers to standard error as `json` or `console` lines."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        redact,
    ]
    renderer: Any = structlog.processors.JSONRenderer()
    if log_format == "console":
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    else:
        # Never with local variables: they hold what people wrote.
        shared.append(
            structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False))
        )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    # Libraries that log requests, bodies or every poll at INFO.
    for noisy in (
        "slack_bolt",
        "slack_sdk",
        "botframework",
        "botbuilder",
        "aiohttp",
        "httpx",
        "msrest",
        "rq",
        "uvicorn",
    ):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    structlog.contextvars.bind_contextvars(process=process)
