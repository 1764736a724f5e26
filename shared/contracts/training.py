"""Training of models as jobs."""

from __future__ import annotations

from typing import Any

from .base import Name, Request, Wire


class TrainRequest(Request):
    """`training.run`: run a recipe. Give it a deadline of hours; the cluster's default is made for turns."""

    recipe: Name
    """A recipe of the trainers' folders, without `.yaml`; never a path."""
    promote: bool = False
    """Serve the new version of an adapter at once, if it passes its evaluation."""


class TrainResult(Wire):
    """Result of `training.run`."""

    recipe: str
    kind: str
    """`adapter`, `language`, `speech`, `embedding`, `voice`."""
    version: str | None = None
    """Of an adapter: `artist@3`, registered."""
    promoted: bool = False
    shortcomings: tuple[str, ...] = ()
    """Why the version may not be served; empty when it may."""
    minutes: float
    figures: dict[str, Any]
    """Steps, losses, examination."""
