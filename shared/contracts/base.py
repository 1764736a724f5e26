"""What every wire type is made of.

Requests forbid unknown fields and never coerce a type, so that a producer's mistake is named at the edge. Results and
events are read tolerantly: a newer writer may add fields.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

SCHEMA_VERSION = 1
"""Version of the wire contract; a request of a newer one is refused, results and events of a newer one are read."""

T = TypeVar("T")
Many = Annotated[tuple[T, ...], Field(strict=False)]
"""A JSON array, read into a tuple."""

_REFUSED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters (Unicode's category Cc) other than tab, newline and return; lone surrogates (Cs)."""


def cleaned(text: str) -> str:
    """What a model wrote, as `Text` takes it: NFC, without the characters that a request may not hold."""
    return unicodedata.normalize("NFC", _REFUSED.sub("", text))


def _clean(text: str) -> str:
    if refused := _REFUSED.search(text):
        raise ValueError(f"holds the character U+{ord(refused[0]):04X}, which no text needs")
    return unicodedata.normalize("NFC", text)


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty")
    return text


Text = Annotated[str, AfterValidator(_clean)]
"""Text for people: NFC, without control characters or lone surrogates."""

NonBlank = Annotated[Text, AfterValidator(_not_blank)]
"""Text with something in it."""

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
"""Name of a tenant, pack, voice, adapter, collection, session or user: safe in keys and paths."""

AdapterName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}(@[0-9]{1,6})?$")]
"""Name of an adapter, as which its promoted version is served, or one version of it: `artist@3`."""

JobId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$")]
"""Chosen by the producer; the same id twice is one job. An application puts its own name first: `spring.<uuid>`."""

Scalar = str | int | float | bool
"""A metadata value."""

Metadata = dict[str, Scalar]
"""Flat key to value pairs of a document, which filters look at."""


class Wire(BaseModel):
    """A result or event: frozen, tolerant to read."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)


class Request(BaseModel):
    """A request: frozen, strict, refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    schema_version: Literal[1] = 1
    tenant: Name = "default"
    """Organisation, family or fan club whose data is kept apart."""


class Part(BaseModel):
    """A piece of a request: as strict as the request."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)


def _carried(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


Quoted = Annotated[str, AfterValidator(_carried)]
"""Text that may quote what is refused, lone surrogates included, and must travel nevertheless."""


class Fault(Wire):
    """How a failure travels: for programs (`code`, `retryable`) and for people (`message`)."""

    code: str
    message: Quoted
    stage: str
    """Task that failed, e.g. `stt.transcribe`."""
    field: Quoted | None = None
    """Offending input, e.g. `sampling.top_p`."""
    retryable: bool = False


class EngineInfo(Wire):
    """Which engine made a result."""

    name: str
    model: str
    version: str
    device: str = "cpu"


class BlobRef(Part):
    """Stored bytes by reference; audio and documents travel only like this."""

    key: Annotated[str, Field(min_length=3, max_length=512)]
    """`<tenant>/<kind>/<name>`: relative, forward slashes, no `..`; the first part is the tenant it belongs to."""
    size: Annotated[int, Field(ge=0)] | None = None
    """Bytes."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    """Hexadecimal digest; checked when given."""
    mime: Annotated[str, Field(max_length=127)] | None = None
    """Media type, e.g. `audio/wav`."""


def first_problem(errors: list[Any]) -> tuple[str, str]:
    """Field path and sentence of a pydantic error list (`ValidationError.errors()`)."""
    first = errors[0]
    field = ".".join(str(part) for part in first["loc"]) or "(request)"
    return field, f"{field}: {first['msg'].removeprefix('Value error, ')}"
