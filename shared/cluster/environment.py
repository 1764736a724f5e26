"""The settings of this process as environment variables, so that supervised processes read the very same."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from shared.settings import ROOT, Settings


def environment_of(config: Settings) -> dict[str, str]:
    """Every setting that was given (environment or `.env`), under its variable's name; paths are made absolute."""
    home = {"MAEARI_HOME": str(config.home.expanduser().resolve())}
    given = {f"MAEARI_{name.upper()}": _text(getattr(config, name)) for name in sorted(config.model_fields_set)}
    return {**{name: value for name, value in given.items() if value is not None}, **home}


def _text(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, Path):
        return str(value.expanduser().resolve())
    if isinstance(value, tuple):
        return json.dumps([_text(item) for item in value])
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return str(value)


def child_environment(config: Settings) -> dict[str, str]:
    """What the supervisor and everything under it inherits."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SUPERVISOR_")}
    search = os.pathsep.join([str(ROOT), *filter(None, [inherited.get("PYTHONPATH")])])
    return {**inherited, **environment_of(config), "PYTHONPATH": search, "PYTHONUNBUFFERED": "1"}


def fingerprints(config: Settings) -> dict[str, str]:
    """One short hash per given setting: shows that a value changed, not what it is."""
    return {name: hashlib.sha256(value.encode()).hexdigest()[:12] for name, value in environment_of(config).items()}
