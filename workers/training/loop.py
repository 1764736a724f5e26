"""The optimisation loop: steps, cosine, validation, early stop, checkpoints to resume from, a guard on time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from shared.errors import TrainingFailed

from . import files
from .dialogue import IGNORED, Batch, Batches, Example, collate
from .optimizer import make_optimizer
from .progress import say, watch
from .recipe import Schedule

Log = Callable[[str], None]


@dataclass
class State:
    """Where a run stands; what a checkpoint holds beside weights and optimizer."""

    step: int = 0
    elapsed_s: float = 0.0
    """Seconds of work: of the processor where it trains, so that a busy machine changes no result."""
    best: float = math.inf
    stale: int = 0
    """Validations since the best."""
    curve: list[tuple[int, float, float]] = field(default_factory=list)
    """Step, training loss, validation loss."""


class Loop:
    """Trains whatever parameters of `model` want gradients; the loss lies on labelled tokens alone.

    A run that is killed goes on from `folder`'s checkpoint; a finished one leaves the best weights in the model.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        schedule: Schedule,
        training: Sequence[Example],
        validation: Sequence[Example],
        *,
        padding: int,
        seed: int,
        folder: Path,
        precision: torch.dtype = torch.float32,
        log: Log = say,
    ) -> None:
        """`folder`: where the checkpoint lies; `precision`: type of the computation under autocast."""
        self.model = model
        self.schedule = schedule
        self.batches = Batches(training, schedule.batch, seed, padding)
        self.validation = _in_batches(validation, schedule.batch, padding)
        self.steps = schedule.steps or math.ceil(
            (schedule.epochs or 1) * self.batches.per_epoch / schedule.accumulation
        )
        self.parameters = {name: value for name, value in model.named_parameters() if value.requires_grad}
        self.optimizer = make_optimizer(self.parameters, schedule)
        self.checkpoint = folder / "checkpoint.pt"
        self.best_weights = folder / "best.pt"
        self.device = next(model.parameters()).device
        self.precision = precision
        self.log = log
        self.state = State()
        folder.mkdir(parents=True, exist_ok=True)

    def run(self) -> dict[str, Any]:
        """Train to the end. The last good checkpoint stays on disk, whatever is raised.

        Raises `TrainingFailed` where the loss is no number or the disk is full, `JobCancelled` where it is to stop.
        """
        self._resume()
        self.model.train()
        mean = _Mean()
        while self._progress() < 1 and not self._stopped_early():
            started = self._clock()
            rate = self._rate()
            mean.add(self._step(rate))
            self.state.step += 1
            self.state.elapsed_s += self._clock() - started
            self._tell(mean.value, rate)
            if self.state.step % self.schedule.validate_every == 0 or self._progress() >= 1:
                self._validate(mean.value)
                mean = _Mean()
            watch.check(self._save_checkpoint, self.state.step)
        self._restore_best()
        return {
            "steps": self.state.step,
            "validation_loss": round(self.state.best, 4),
            "training_minutes": round(self.state.elapsed_s / 60, 1),
            "curve": self.state.curve,
        }

    def forget(self) -> None:
        """Remove the checkpoint, once the model stands elsewhere."""
        self.checkpoint.unlink(missing_ok=True)
        self.best_weights.unlink(missing_ok=True)

    def _step(self, rate: float) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("share", 1.0)
        total = 0.0
        for part in range(self.schedule.accumulation):
            batch = self.batches[self.state.step * self.schedule.accumulation + part]
            loss = self._loss(batch) / self.schedule.accumulation
            loss.backward()
            total += loss.item()
        if not math.isfinite(total):
            raise TrainingFailed(f"The loss is {total} at step {self.state.step}; the last good checkpoint is kept.")
        torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.schedule.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return total

    def _loss(self, batch: Batch) -> torch.Tensor:
        with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
            return answer_loss(self.model, batch.tokens.to(self.device), batch.labels.to(self.device))

    @torch.no_grad()
    def _validate(self, training: float) -> None:
        self.model.eval()
        loss = sum(self._loss(batch).item() for batch in self.validation) / len(self.validation)
        if not math.isfinite(loss):
            raise TrainingFailed(f"The validation loss is {loss} at step {self.state.step}; the best weights are kept.")
        self.model.train()
        self.state.curve.append((self.state.step, round(training, 4), round(loss, 4)))
        improved = loss < self.state.best
        self.state.stale = 0 if improved else self.state.stale + 1
        if improved:
            self.state.best = loss
            files.save(self.best_weights, {name: value.detach() for name, value in self.parameters.items()})
        self._save_checkpoint()
        self.log(f"step {self.state.step}/{self.steps} validation loss {loss:.4f}{' (best)' if improved else ''}")

    def _rate(self) -> float:
        done = self._progress()
        if done < self.schedule.warmup:
            return self.schedule.learning_rate * (done + 1 / self.steps) / (self.schedule.warmup + 1 / self.steps)
        fall = 0.5 * (1 + math.cos(math.pi * (done - self.schedule.warmup) / (1 - self.schedule.warmup)))
        return self.schedule.learning_rate * (self.schedule.floor + (1 - self.schedule.floor) * fall)

    def _progress(self) -> float:
        """Share of the run that is behind: of the steps, or of the time where that runs out first."""
        minutes = self.schedule.max_minutes
        timed = self.state.elapsed_s / 60 / minutes if minutes else 0.0
        return min(1.0, max(self.state.step / self.steps, timed))

    def _clock(self) -> float:
        return time.process_time() if self.device.type == "cpu" else time.monotonic()

    def _stopped_early(self) -> bool:
        patience = self.schedule.patience
        return patience is not None and self.state.stale >= patience

    def _tell(self, loss: float, rate: float) -> None:
        left = self.state.elapsed_s * (1 / self._progress() - 1)
        watch.tell(step=self.state.step, steps=self.steps, loss=loss, rate=rate, eta_s=left)

    def _save_checkpoint(self) -> None:
        weights = {name: value.detach() for name, value in self.parameters.items()}
        content = {"weights": weights, "optimizer": self.optimizer.state_dict(), "state": vars(self.state)}
        files.save(self.checkpoint, content)

    def _resume(self) -> None:
        if not self.checkpoint.is_file():
            return
        content = files.load(self.checkpoint, self.device)
        self._load(content["weights"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.state = State(**content["state"])
        self.log(f"going on from step {self.state.step}")

    def _restore_best(self) -> None:
        if self.best_weights.is_file():
            self._load(files.load(self.best_weights, self.device))
        self.model.eval()

    @torch.no_grad()
    def _load(self, weights: dict[str, torch.Tensor]) -> None:
        for name, value in self.parameters.items():
            value.copy_(weights[name])


def answer_loss(model: torch.nn.Module, tokens: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of the labelled tokens; the head runs on those alone, which spares most of its work."""
    wrapped: Any = model
    core = wrapped.get_base_model() if hasattr(model, "get_base_model") else wrapped
    hidden = core.model(input_ids=tokens[:, :-1], use_cache=False).last_hidden_state
    targets = labels[:, 1:]
    wanted = targets != IGNORED
    return torch.nn.functional.cross_entropy(core.lm_head(hidden[wanted]).float(), targets[wanted])


def _in_batches(examples: Sequence[Example], size: int, padding: int) -> list[Batch]:
    near = sorted(examples, key=lambda example: len(example.tokens))
    return [collate(near[start : start + size], padding) for start in range(0, len(near), size)]


class _Mean:
    def __init__(self) -> None:
        self.total, self.count = 0.0, 0

    def add(self, value: float) -> None:
        self.total += value
        self.count += 1

    @property
    def value(self) -> float:
        return self.total / max(1, self.count)
