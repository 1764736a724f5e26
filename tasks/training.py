"""Training of models."""

from __future__ import annotations

from dataclasses import asdict

from shared import runtime
from shared.app import task
from shared.attempt import Attempt
from shared.contracts.training import TrainRequest, TrainResult
from shared.protocols import TrainingProgress


@task("training.run")
def run(attempt: Attempt, request: TrainRequest) -> TrainResult:
    """A recipe, with its progress told as it goes."""

    def on_progress(standing: TrainingProgress) -> None:
        told = asdict(standing)
        attempt.emit("progress", stage=attempt.spec.name, done=told.pop("step"), total=told.pop("steps"), **told)

    return runtime.trainer().train(request, stop=attempt.stop, timeout_s=attempt.timeout_s, on_progress=on_progress)
