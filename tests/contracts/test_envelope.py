"""What may come in from a producer, and what is named as wrong before Celery could stumble over it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from shared import envelope
from shared.contracts.catalog import CATALOG, QUEUES
from shared.errors import InvalidRequest, UnknownTask

Message = dict[str, Any]


def minimal() -> Message:
    """The smallest message that the wire contract allows."""
    return {
        "body": json.dumps([[{"texts": ["안녕 🌊"]}], {}, None]),
        "content-type": "application/json",
        "headers": {"task": "rag.embed", "id": "spring.1"},
        "properties": {"delivery_tag": "x", "delivery_info": {"exchange": "", "routing_key": "rag"}},
    }


def test_the_message_that_we_build_is_one_that_we_accept() -> None:
    raw = envelope.build("rag.embed", "j1", {"texts": ["안녕 🌊"]})
    checked = envelope.check(raw, "rag")
    assert (checked.task, checked.job_id, checked.request) == ("rag.embed", "j1", {"texts": ["안녕 🌊"]})


def test_the_smallest_message_of_the_contract_is_accepted() -> None:
    assert envelope.check(json.dumps(minimal())).request == {"texts": ["안녕 🌊"]}


def test_celerys_own_base64_bodies_are_accepted() -> None:
    message = minimal()
    message["body"] = base64.b64encode(message["body"].encode()).decode()
    message["properties"]["body_encoding"] = "base64"
    assert envelope.check(json.dumps(message)).request == {"texts": ["안녕 🌊"]}


def test_what_reaches_celery_carries_no_user_text_in_its_headers() -> None:
    message = minimal()
    message["headers"] |= {"argsrepr": "비밀", "kwargsrepr": "비밀", "expires": "never", "timelimit": "soon", "eta": 5}
    accepted = envelope.check(json.dumps(message)).message
    assert "비밀" not in json.dumps(accepted["headers"], ensure_ascii=False)
    assert not {"expires", "timelimit", "eta"} & set(accepted["headers"])


def test_each_delivery_has_a_tag_of_its_own() -> None:
    raw = json.dumps(minimal())
    tags = {envelope.check(raw).message["properties"]["delivery_tag"] for _ in range(5)}
    assert len(tags) == 5


def _set(*path: str, to: Any) -> Callable[[Message], None]:
    def change(message: Message) -> None:
        for name in path[:-1]:
            message = message[name]
        message[path[-1]] = to

    return change


def _drop(*path: str) -> Callable[[Message], None]:
    def change(message: Message) -> None:
        for name in path[:-1]:
            message = message[name]
        del message[path[-1]]

    return change


MALFORMED: dict[str, tuple[Callable[[Message], None], str]] = {
    "no body": (_drop("body"), "body"),
    "empty body": (_set("body", to=""), "body"),
    "null body": (_set("body", to=None), "body"),
    "number as body": (_set("body", to=5), "body"),
    "two elements": (_set("body", to="[[{}], {}]"), "body"),
    "arguments not a list": (_set("body", to="[{}, {}, null]"), "body"),
    "no argument": (_set("body", to="[[], {}, null]"), "body"),
    "two arguments": (_set("body", to="[[{}, {}], {}, null]"), "body"),
    "keyword arguments": (_set("body", to='[[{}], {"a": 1}, null]'), "body"),
    "keyword arguments a list": (_set("body", to="[[{}], [], null]"), "body"),
    "a chain": (_set("body", to='[[{}], {}, {"chain": [{"task": "rag.embed"}]}]'), "body"),
    "a callback": (_set("body", to='[[{}], {}, {"callbacks": [{"task": "rag.embed"}]}]'), "body"),
    "deep nesting": (_set("body", to="[" * 100_000), "body"),
    "bad base64": (_set("properties", "body_encoding", to="base64"), "body"),
    "unknown encoding": (_set("properties", "body_encoding", to="zip"), "properties.body_encoding"),
    "pickle": (_set("content-type", to="application/x-python-serialize"), "content-type"),
    "no content type": (_drop("content-type"), "content-type"),
    "headers a list": (_set("headers", to=[]), "headers"),
    "no headers": (_drop("headers"), "headers"),
    "no properties": (_drop("properties"), "properties"),
    "no id": (_drop("headers", "id"), "headers.id"),
    "a number as id": (_set("headers", "id", to=7), "headers.id"),
    "an endless id": (_set("headers", "id", to="x" * 201), "headers.id"),
    "no task": (_drop("headers", "task"), "headers.task"),
    "unknown task": (_set("headers", "task", to="os.system"), "headers.task"),
    "task of another queue": (_set("headers", "task", to="llm.generate"), "headers.task"),
    "priority as text": (_set("properties", "priority", to="high"), "properties.priority"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_message_is_named_and_refused(case: str) -> None:
    change, field = MALFORMED[case]
    message = minimal()
    change(message)
    with pytest.raises(InvalidRequest) as refused:
        envelope.check(json.dumps(message), "rag")
    assert refused.value.field == field
    assert refused.value.message


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"5", b"null", b"\xff\xfe", b"\x80\x04K\x05."])
def test_bytes_that_are_no_message_are_refused(raw: bytes) -> None:
    with pytest.raises(InvalidRequest) as refused:
        envelope.check(raw, "rag")
    assert refused.value.field == "message"


def test_an_unknown_task_is_told_from_other_mistakes() -> None:
    message = minimal()
    message["headers"]["task"] = "nobody.knows"
    with pytest.raises(UnknownTask):
        envelope.check(json.dumps(message))


def test_every_task_is_routed_to_its_queue() -> None:
    import celeryconfig

    assert {name: route["queue"] for name, route in celeryconfig.task_routes.items()} == {
        spec.name: spec.queue for spec in CATALOG.values()
    }
    assert [queue.name for queue in celeryconfig.task_queues] == list(QUEUES)
