"""Signatures of messages, for a Redis that more people can write to than may use the cluster.

What is signed, byte by byte, and what that protects: docs/wire-contract.md, "Signing"; docs/security.md.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import BadSignature, ConfigurationInvalid, InvalidRequest
from .settings import Settings

SIGNATURE, DEADLINE = "signature", "deadline_ms"
"""Headers of a signed message."""

VERSION = "v1="
"""In front of the hexadecimal digits; another way to sign would bear another number."""

LEAST_KEY = 32
"""Bytes of the shortest key that is accepted."""


@dataclass(frozen=True)
class Signing:
    """The keys of a cluster; without any, messages are neither signed nor checked."""

    keys: tuple[bytes, ...] = field(default=(), repr=False)
    """The first one signs, all of them verify."""
    default_ms: int = 900_000
    """Milliseconds within which a signed job must end when its producer does not say."""
    horizon_ms: int = 86_400_000
    """Milliseconds ahead that a signed deadline may lie: as long as a finished job's record is kept, so that its
    message cannot be used again once its id is forgotten."""

    @classmethod
    def of(cls, configured: Settings) -> Signing:
        """What the settings say. Raises `ConfigurationInvalid`, which never shows a key."""
        keys = _keys(configured.signing_keys.get_secret_value())
        return cls(keys, int(configured.default_deadline_s * 1000), configured.job_ttl_s * 1000)

    def __bool__(self) -> bool:
        """Whether messages are signed."""
        return bool(self.keys)

    def within(self, deadline_ms: int) -> int:
        """The milliseconds within which a job is to end, as asked for; a signed one always has a deadline.

        Raises `InvalidRequest` where workers would refuse it.
        """
        if not self.keys:
            return deadline_ms
        if deadline_ms > self.horizon_ms:
            limit = self.horizon_ms // 1000
            raise InvalidRequest(f"A signed job's deadline is at most {limit} s ahead.", field="deadline_s")
        return deadline_ms or min(self.default_ms, self.horizon_ms)

    def headers(self, job_id: str, task: str, deadline_ms: int, body: str) -> dict[str, Any]:
        """The headers that sign a message; `deadline_ms`: milliseconds since the epoch."""
        if not self.keys:
            return {}
        return {DEADLINE: deadline_ms, SIGNATURE: signature(self.keys[0], job_id, task, deadline_ms, body)}

    def verify(self, job_id: str, task: str, headers: Mapping[str, Any], body: str) -> int:
        """The deadline that was signed (since the epoch); 0 when nothing is checked. Raises `BadSignature`."""
        if not self.keys:
            return 0
        found, deadline_ms = headers.get(SIGNATURE), headers.get(DEADLINE)
        if not isinstance(found, str):
            raise BadSignature("There is none.", field="headers.signature")
        if not isinstance(deadline_ms, int) or isinstance(deadline_ms, bool) or deadline_ms <= 0:
            raise BadSignature("It needs a deadline.", field="headers.deadline_ms")
        given = found.encode(errors="replace")
        wanted = [signature(key, job_id, task, deadline_ms, body).encode() for key in self.keys]
        if not any(hmac.compare_digest(given, one) for one in wanted):
            raise BadSignature(field="headers.signature")
        if deadline_ms > time.time() * 1000 + self.horizon_ms:
            limit = self.horizon_ms // 1000
            raise BadSignature(f"Its deadline is more than {limit} s ahead.", field="headers.deadline_ms")
        return deadline_ms


UNSIGNED = Signing()
"""No keys."""


def signature(key: bytes, job_id: str, task: str, deadline_ms: int, body: str) -> str:
    """The signature of a message whose `body` is this very string, whatever its encoding."""
    digest = hashlib.sha256(body.encode(errors="surrogatepass")).hexdigest()
    signed = f"{job_id}\n{task}\n{deadline_ms}\n{digest}"
    return VERSION + hmac.new(key, signed.encode(), hashlib.sha256).hexdigest()


def _keys(given: str) -> tuple[bytes, ...]:
    """`a,b` or `file:/path`, a key a line."""
    path = given.removeprefix("file:")
    try:
        written = Path(path).read_text("utf-8").splitlines() if path != given else given.split(",")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationInvalid(f"{path} cannot be read ({type(error).__name__}).", field="signing_keys") from None
    keys = tuple(key.strip().encode() for key in written if key.strip())
    if any(len(key) < LEAST_KEY for key in keys):
        raise ConfigurationInvalid(f"A signing key has at least {LEAST_KEY} characters.", field="signing_keys")
    if given and not keys:
        raise ConfigurationInvalid("There is no signing key in it.", field="signing_keys")
    return keys
