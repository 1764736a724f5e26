"""Cases: what a person says to a pack, and what must come of it. Written by the project or read from a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from shared.contracts.base import NonBlank, first_problem
from shared.errors import MaeariError

MOST_CASES = 2000
"""Lines of a file; more would take hours."""

Rule = Literal["ending", "signature", "self-reference", "address", "emoji"]
"""A checkable rule of a pack's `speech`."""

MeasureName = Literal[
    "heard_cer",
    "noisy_cer",
    "new_wordings_cer",
    "hit_at_3",
    "fact_stated",
    "style_kept",
    "other_style_kept",
    "recall_stated",
    "spoken_back_cer",
]
"""A figure; what each means stands in `measures`."""


class InvalidCases(MaeariError):
    """The cases cannot be used."""

    code = "invalid_cases"


RULES: tuple[Rule, ...] = get_args(Rule)


class Manner(BaseModel):
    """How espeak-ng says the last turn."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    variant: Annotated[str, Field(pattern=r"^(\+[a-zA-Z0-9]{1,16})?$")] = ""
    """Voice variant, e.g. `+f2`; empty: the plain Korean voice."""
    speed: Annotated[int, Field(ge=80, le=450)] = 185
    """Words per minute."""
    pitch: Annotated[int, Field(ge=0, le=99)] = 47


class Case(BaseModel):
    """One line of a file of cases."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    id: NonBlank | None = None
    """Shown where the case fails; empty: file and line."""
    turns: Annotated[tuple[NonBlank, ...], Field(strict=False, min_length=1, max_length=8)]
    """What the person says, turn by turn in one session; the reply to the last one is judged."""
    expect: Annotated[tuple[NonBlank, ...], Field(strict=False)] = ()
    """What the reply must state, all of it; spacing does not matter."""
    retrieved: Annotated[tuple[NonBlank, ...], Field(strict=False)] | None = None
    """What one of the first three chunks must hold; empty: `expect`, where there is one turn."""
    rules: Annotated[tuple[Rule, ...], Field(strict=False)] = RULES
    """Rules of the pack's speech that the reply must keep; `[]`: none is looked at."""
    name: NonBlank | None = None
    """The person's given name, where the turns tell it: calling them so counts as address."""
    voice: Manner | None = None
    """How the last turn is spoken for the figures of hearing; empty: a speed and pitch never trained."""
    measures: Annotated[tuple[MeasureName, ...], Field(strict=False, min_length=1)] | None = None
    """The figures that the case counts for; empty: every one that it can."""

    @model_validator(mode="after")
    def _possible(self) -> Case:
        if impossible := sorted(set(self.measures or ()) - set(self.possible())):
            raise ValueError(f"measures: {', '.join(impossible)} cannot be counted from what the case gives")
        return self

    @property
    def last(self) -> str:
        """The turn whose reply is judged."""
        return self.turns[-1]

    @property
    def wanted(self) -> tuple[str, ...]:
        """What retrieval must find."""
        return self.retrieved if self.retrieved is not None else self.expect if len(self.turns) == 1 else ()

    @property
    def counted(self) -> tuple[MeasureName, ...]:
        """The figures that the case counts for."""
        return self.measures or tuple(name for name in self.possible() if name != "new_wordings_cer")

    def possible(self) -> list[MeasureName]:
        """Every figure that the case can count for."""
        found: list[MeasureName] = ["heard_cer", "noisy_cer", "new_wordings_cer", "spoken_back_cer"]
        if self.wanted:
            found.append("hit_at_3")
        if self.expect:
            found.append("fact_stated" if len(self.turns) == 1 else "recall_stated")
        if self.rules:
            found += ["style_kept", "other_style_kept"]
        return found


def read_cases(path: Path) -> list[Case]:
    """The cases of a JSONL file; blank lines are skipped. Raises `InvalidCases` naming file and line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise _invalid(f"{path} is not UTF-8 text.") from error
    except OSError as error:
        raise _invalid(f"{path} cannot be read: {error.strerror}.") from error
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not numbered:
        raise _invalid(f"{path} holds no case.")
    if len(numbered) > MOST_CASES:
        raise _invalid(f"{path} holds {len(numbered)} cases, at most {MOST_CASES} are taken.")
    return [_read(path, number, line) for number, line in numbered]


def _read(path: Path, number: int, line: str) -> Case:
    where = f"{path}:{number}"
    try:
        raw = json.loads(line)
    except json.JSONDecodeError as error:
        raise _invalid(f"{where}: is not JSON ({error.msg}, column {error.colno}).") from error
    try:
        case = Case.model_validate(raw)
    except ValidationError as error:
        _, problem = first_problem(error.errors(include_url=False, include_input=False))
        raise _invalid(f"{where}: {problem}") from error
    return case if case.id else case.model_copy(update={"id": f"{path.name}:{number}"})


def _invalid(sentence: str) -> InvalidCases:
    return InvalidCases(sentence, field="cases")
