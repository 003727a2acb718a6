"""However often strangers make a server complain, its log stays short."""

import logging

import pytest

from image_classification_trash.serving.operations import quiet_log
from image_classification_trash.serving.operations.quiet_log import LINES_AT_ONCE, QuietLog


def test_a_burst_then_a_line_a_second_with_what_was_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(quiet_log.time, "monotonic", lambda: now)
    quiet = QuietLog()

    def written(**options: object) -> str | None:
        record = logging.makeLogRecord({"msg": "bad %s", "args": ("request",), **options})
        return record.getMessage() if quiet.filter(record) else None

    assert [written() for _ in range(1000)].count("bad request") == LINES_AT_ONCE
    now = 1.0
    assert written() == "bad request (940 messages before this one were left out)"
    assert written() is None
    now = 10.0
    assert written(exc_info=(None, None, None)) is None  # a traceback is many lines
    now = 40.0
    assert written(exc_info=(None, None, None)) == "bad request (2 messages before this one were left out)"
