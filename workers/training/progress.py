"""How far a training is, and whether it is to stop: what every loop tells and asks."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from shared.errors import JobCancelled

SHOW_EVERY_S = 15.0
"""Seconds between two lines of progress."""


@dataclass(frozen=True)
class Standing:
    """Where a training stands."""

    stage: str
    """What is trained now, e.g. `language, stage 2`."""
    step: int
    steps: int
    loss: float
    rate: float
    """Learning rate of the step."""
    eta_s: float
    """Seconds that the rest of this stage will take."""


Listener = Callable[[Standing], None]


def say(line: str) -> None:
    """Print a line for people at once, also into a file."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


class Lines:
    """Tells people of progress, a line now and then."""

    def __init__(self, every_s: float = SHOW_EVERY_S) -> None:
        """`every_s`: seconds between two lines."""
        self._every_s = every_s
        self._shown = time.monotonic()

    def __call__(self, standing: Standing) -> None:
        """Show it, unless the last line is too young."""
        if time.monotonic() - self._shown < self._every_s:
            return
        self._shown = time.monotonic()
        left = f"eta {standing.eta_s / 60:.1f} min"
        say(f"step {standing.step}/{standing.steps} loss {standing.loss:.4f} lr {standing.rate:.2e} {left}")


class Watch:
    """Who hears of progress, and whether the training is to stop. One per process."""

    def __init__(self) -> None:
        """Lines for people; nobody stops it."""
        self.listener: Listener = Lines()
        self.stage = ""
        self.stopping = False
        """Set by a signal's handler. No `Event`: a second signal meanwhile would wait for its lock in vain."""
        self.at_end: list[Callable[[], None]] = []
        """What is to be done once the model stands where it belongs: checkpoints go, and not a moment earlier."""

    def tell(self, *, step: int, steps: int, loss: float, rate: float, eta_s: float) -> None:
        """A step has been made."""
        self.listener(Standing(self.stage, step, steps, loss, rate, max(0.0, eta_s)))

    def finish(self) -> None:
        """The model stands where it belongs."""
        while self.at_end:
            self.at_end.pop()()

    def check(self, keep: Callable[[], None] | None, step: int) -> None:
        """Between two steps: where the training is to stop, `keep` its checkpoint and raise `JobCancelled`."""
        if self.stopping:
            if keep is not None:
                keep()
            kept = "its checkpoint is kept" if keep else "it is short enough to begin anew"
            raise JobCancelled(f"It stopped after step {step}; {kept}.")


watch = Watch()
"""Of this process."""


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """SIGTERM and Ctrl-C end the training after the step that it is making."""

    def stop(_number: int, _frame: object) -> None:
        watch.stopping = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
