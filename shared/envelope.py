"""The one JSON message: Celery's protocol 2 in Kombu's Redis envelope, as any producer may write it.

Fields and what Celery 5.7 does without them: docs/wire-contract.md.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import itertools
import json
import re
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from . import codec
from .contracts.catalog import CATALOG
from .errors import InvalidRequest, UnknownTask
from .signing import DEADLINE, UNSIGNED, Signing

_HIDDEN = "(…)"
"""Stands in events and logs for the arguments, which are user text."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}(/[a-z0-9/]{1,40})?")
"""A job's id, or one of its stages'."""

_ID_FIELD = re.compile(rf'"id"\s*:\s*"({_ID.pattern.replace("(/", "(?:/")})"')
"""Where the id stands in a message that is no JSON."""

REQUEST = "request"
"""Header in which a checked message carries its request, already read, to the task of the same process."""

DIGEST = "digest"
"""Header with the SHA-1 (hex) of the message as it was found; the record knows what it was made with."""

NO_BODY: Any = ([None], {}, {})
"""What Celery is given in place of a body that has been read."""

_NO_BODY = json.dumps(NO_BODY)

_TAGS = itertools.count(1)
"""Celery tells the deliveries of one process apart by them."""

DEPTH = 64
"""Brackets within brackets; far beyond any request, far below what a JSON reader can take."""


def build(
    task: str,
    job_id: str,
    request: dict[str, Any],
    *,
    priority: int = 0,
    signing: Signing = UNSIGNED,
    deadline_ms: int = 0,
) -> str:
    """The message that asks for `task` under `job_id`; `request` is the JSON object of the task's request.

    `deadline_ms`: milliseconds since the epoch, told only where messages are signed.
    """
    body = codec.write_plain([[request], {}, {}])
    return codec.write_plain(
        {
            "body": body,
            "content-type": "application/json",
            "content-encoding": "utf-8",
            "headers": {
                "task": task,
                "id": job_id,
                "root_id": job_id,
                "lang": "py",
                "retries": 0,
                "ignore_result": True,
            }
            | signing.headers(job_id, task, deadline_ms, body),
            "properties": {
                "delivery_tag": str(uuid.uuid4()),
                "priority": priority,
                "delivery_info": {"exchange": "", "routing_key": CATALOG[task].queue},
            },
        }
    )


@dataclass(frozen=True)
class Checked:
    """A message that Celery can take, and what it asks for."""

    message: dict[str, Any]
    task: str
    job_id: str
    request: Any
    deadline_ms: int
    """Signed by whoever made it (since the epoch); 0 where messages are not signed."""


def check(raw: bytes | str, queue: str | None = None, *, signing: Signing = UNSIGNED) -> Checked:
    """Read a message as strictly as Celery needs it, so that none stops a worker.

    Raises `InvalidRequest` (or `UnknownTask`, `BadSignature`) that names what is wrong. `queue`: where it was found.
    """
    message = _json(raw, "message")
    headers, properties = _object(message, "headers"), _object(message, "properties")
    task, job_id = _string(headers, "task"), _string(headers, "id")
    if not _ID.fullmatch(job_id):
        raise InvalidRequest("is not the id of a job.", field="headers.id")
    if task not in CATALOG:
        raise UnknownTask(task[:100], field="headers.task")
    if queue is not None and CATALOG[task].queue != queue:
        raise InvalidRequest(f"{task} belongs to queue {CATALOG[task].queue}, not {queue}.", field="headers.task")
    if message.get("content-type") != "application/json":
        raise InvalidRequest("content-type must be application/json.", field="content-type")
    body = _body(message)
    deadline_ms = signing.verify(job_id, task, headers, body)
    request = _request(_decoded(body, properties))
    priority = properties.get("priority", 0)
    if not isinstance(priority, int) or isinstance(priority, bool):
        raise InvalidRequest("must be a whole number.", field="properties.priority")
    normal = _normal(message, task, job_id, priority)
    normal["headers"] |= {DEADLINE: deadline_ms, REQUEST: request, DIGEST: _digest(raw)}
    return Checked(normal, task, job_id, request, deadline_ms)


def _digest(raw: bytes | str) -> str:
    data = raw if isinstance(raw, bytes) else raw.encode(errors="surrogatepass")
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


def job_id(raw: bytes | str) -> str:
    """The id of the job that a message carries, as far as one can tell; '' where it cannot be read."""
    text = raw if isinstance(raw, str) else raw.decode("utf-8", "replace")
    try:
        found = json.loads(text, strict=False)["headers"]["id"]
    except Exception:  # noqa: BLE001 - the message may be broken in a way that nobody has thought of
        seen = _ID_FIELD.search(text)
        return seen[1] if seen else ""
    return found if isinstance(found, str) and _ID.fullmatch(found) else ""


def _normal(message: dict[str, Any], task: str, job_id: str, priority: int) -> dict[str, Any]:
    """The message with nothing left to chance: a tag of its own, known headers only, arguments hidden from events."""
    message["headers"] = {
        "task": task,
        "id": job_id,
        "root_id": job_id,
        "lang": "py",
        "retries": 0,
        "ignore_result": True,
        "argsrepr": _HIDDEN,
        "kwargsrepr": "{}",
    }
    message["body"] = _NO_BODY
    message["properties"] = {
        "delivery_tag": str(next(_TAGS)),
        "body_encoding": "utf-8",
        "priority": priority,
        "delivery_info": {"exchange": "", "routing_key": CATALOG[task].queue, "priority": priority},
        "correlation_id": job_id,
    }
    message["content-encoding"] = "utf-8"
    return message


def _json(raw: bytes | str, what: str) -> dict[str, Any]:
    value = _loads(raw, what)
    if not isinstance(value, dict):
        raise InvalidRequest("must be a JSON object.", field=what)
    return value


def _object(parent: dict[str, Any], name: str) -> dict[str, Any]:
    value = parent.get(name)
    if not isinstance(value, dict):
        raise InvalidRequest("must be an object.", field=name)
    return value


def _string(parent: dict[str, Any], name: str) -> str:
    value = parent.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= 200:
        raise InvalidRequest("must be a string of 1 to 200 characters.", field=f"headers.{name}")
    return value


def _body(message: dict[str, Any]) -> str:
    body = message.get("body")
    if not isinstance(body, str):
        raise InvalidRequest("must be a string.", field="body")
    return body


def _decoded(body: str, properties: dict[str, Any]) -> Any:
    encoding = properties.get("body_encoding")
    if encoding in (None, "", "utf-8"):
        return _loads(body, "body")
    if encoding != "base64":
        raise InvalidRequest("must be base64 or utf-8.", field="properties.body_encoding")
    try:
        return _loads(base64.b64decode(body, validate=True), "body")
    except binascii.Error as error:
        raise InvalidRequest(f"is not base64: {error}", field="body") from None


def _loads(raw: bytes | str, what: str) -> Any:
    try:
        value = codec.read(raw)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"is not JSON: {str(error)[:120]}", field=what) from None
    if _brackets(raw) > DEPTH and _depth(value) > DEPTH:
        raise InvalidRequest(f"has more than {DEPTH} levels.", field=what)
    return value


def _brackets(raw: bytes | str) -> int:
    """Opening brackets: no value is deeper than it has of them, and few messages need a closer look."""
    if isinstance(raw, bytes):
        return raw.count(b"[") + raw.count(b"{")
    return raw.count("[") + raw.count("{")


def _depth(value: Any) -> int:
    """Levels of a JSON value, found without recursion; gives up one level beyond `DEPTH`."""
    depth, level = 0, [value]
    while level and depth <= DEPTH:
        level = [part for whole in level for part in _parts(whole)]
        depth += 1
    return depth


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _request(body: Any) -> Any:
    """The single argument; keyword arguments and embedded chains are refused, since they would name further tasks."""
    if not isinstance(body, list) or len(body) != 3:
        raise InvalidRequest("must be [[request], {}, {}].", field="body")
    args, kwargs, embed = body
    if not isinstance(args, list) or len(args) != 1 or kwargs != {}:
        raise InvalidRequest("must be [[request], {}, {}].", field="body")
    if embed is not None and (not isinstance(embed, dict) or any(embed.values())):
        raise InvalidRequest("callbacks, chains and chords are not taken from messages.", field="body")
    return args[0]
