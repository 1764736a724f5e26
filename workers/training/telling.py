"""What a training process tells the one that started it: JSON lines on its standard output, and nothing else there."""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict
from typing import Any

from shared.contracts.base import Fault
from shared.contracts.training import TrainResult
from shared.errors import MaeariError

from .progress import Standing

EVERY_S = 1.0
"""Seconds between two lines of progress; the first and the last step are always told."""


class Teller:
    """Writes lines to what standard output was; what libraries print goes to standard error from now on."""

    def __init__(self) -> None:
        """Take standard output over."""
        sys.stdout.flush()
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self._told = float("-inf")
        self._stage = ""

    def progress(self, standing: Standing) -> None:
        """A step has been made."""
        now = time.monotonic()
        last = standing.step == standing.steps
        if now - self._told < EVERY_S and standing.stage == self._stage and not last:
            return
        self._told, self._stage = now, standing.stage
        self._write("progress", asdict(standing))

    def done(self, result: TrainResult) -> None:
        """The training has ended well."""
        self._write("done", result.model_dump(mode="json"))

    def failed(self, error: MaeariError) -> None:
        """The training has ended badly, or was stopped."""
        fault = Fault(
            code=error.code, message=error.detail, stage="training.run", field=error.field, retryable=error.retryable
        )
        self._write("failed", fault.model_dump(mode="json"))

    def _write(self, kind: str, content: dict[str, Any]) -> None:
        self._out.write(json.dumps({"type": kind, **content}, ensure_ascii=False) + "\n")
        self._out.flush()
