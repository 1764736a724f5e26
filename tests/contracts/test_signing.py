"""What a signature is made of, and what it refuses; computed here once more from the words of the wire contract."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from shared import envelope
from shared.cluster.environment import environment_of
from shared.errors import BadSignature, ConfigurationInvalid, InvalidRequest
from shared.settings import ROOT, Settings
from shared.signing import Signing

KEY = "k" * 32
OTHER = "o" * 32
SIGNING = Signing((KEY.encode(),))
REQUEST = {"texts": ["안녕 🌊"]}


def by_the_book(key: str, message: dict[str, Any]) -> str:
    """The signature as the wire contract says it."""
    headers, body = message["headers"], message["body"]
    digest = hashlib.sha256(body.encode("utf-8")).hexdigest()
    text = headers["id"] + "\n" + headers["task"] + "\n" + str(headers["deadline_ms"]) + "\n" + digest
    return "v1=" + hmac.digest(key.encode("utf-8"), text.encode("utf-8"), "sha256").hex()


def soon() -> int:
    return int(time.time() * 1000) + 60_000


def built(signing: Signing = SIGNING, **changes: Any) -> dict[str, Any]:
    """A signed message, changed afterwards."""
    raw = envelope.build("rag.embed", "j1", REQUEST, signing=signing, deadline_ms=soon())
    message: dict[str, Any] = json.loads(raw)
    for path, value in changes.items():
        place, _, name = path.rpartition("__")
        (message[place] if place else message)[name] = value
    return message


def check(message: dict[str, Any], signing: Signing = SIGNING) -> envelope.Checked:
    return envelope.check(json.dumps(message), signing=signing)


def test_the_published_example_is_signed_as_the_contract_says() -> None:
    example = json.loads((ROOT / "shared" / "schemas" / "signing.json").read_text("utf-8"))
    message = example["message"]
    assert message["headers"]["signature"] == by_the_book(example["key"], message)
    assert hashlib.sha256(message["body"].encode()).hexdigest() == example["body_sha256"]
    assert example["signed_text"].split("\n") == ["spring.0001", "turns.start", "1800000000000", example["body_sha256"]]
    assert "🌊" in message["body"]


def test_a_signed_message_is_taken_with_its_deadline() -> None:
    message = built()
    assert message["headers"]["signature"] == by_the_book(KEY, message)
    checked = check(message)
    assert checked.deadline_ms == message["headers"]["deadline_ms"] == checked.message["headers"]["deadline_ms"]


def test_of_a_base64_body_the_text_as_it_stands_is_signed() -> None:
    message = built(body=base64.b64encode(json.dumps([[REQUEST], {}, {}]).encode()).decode())
    message["properties"]["body_encoding"] = "base64"
    message["headers"]["signature"] = by_the_book(KEY, message)
    assert check(message).request == REQUEST


@pytest.mark.parametrize("keys", [(KEY, OTHER), (OTHER, KEY)])
def test_every_key_verifies_and_the_first_one_signs(keys: tuple[str, str]) -> None:
    both = Signing(tuple(key.encode() for key in keys))
    assert check(built(), both).request == REQUEST
    assert by_the_book(keys[0], made := built(both)) == made["headers"]["signature"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"headers__signature": None}, "headers.signature"),
        ({"headers__signature": ""}, "headers.signature"),
        ({"headers__signature": "v1=" + "0" * 64}, "headers.signature"),
        ({"headers__signature": "v1=낙서"}, "headers.signature"),
        ({"headers__signature": "\ud800"}, "headers.signature"),
        ({"headers__id": "j2"}, "headers.signature"),
        ({"headers__task": "llm.generate"}, "headers.signature"),
        ({"headers__deadline_ms": soon() + 1}, "headers.signature"),
        ({"headers__deadline_ms": 0}, "headers.deadline_ms"),
        ({"headers__deadline_ms": True}, "headers.deadline_ms"),
        ({"headers__deadline_ms": str(soon())}, "headers.deadline_ms"),
        ({"headers__deadline_ms": None}, "headers.deadline_ms"),
        ({"body": '[[{"texts": ["\\ud83c"]}], {}, {}]'}, "headers.signature"),
        ({"body": "\ud800"}, "headers.signature"),
        ({"body": '[[{"texts": ["안녕 🌊"]}], {}, {}]'}, "headers.signature"),
    ],
)
def test_whatever_is_changed_of_a_signed_message_is_refused(changes: dict[str, Any], field: str) -> None:
    message = built() | {}
    with pytest.raises(BadSignature) as refused:
        check(built(**changes))
    assert refused.value.field == field
    assert KEY not in refused.value.message
    assert check(message).request == REQUEST


def test_a_key_of_somebody_else_is_refused() -> None:
    with pytest.raises(BadSignature):
        check(built(Signing((OTHER.encode(),))))


def test_a_deadline_far_away_would_outlive_the_record_and_is_refused_on_both_sides() -> None:
    far = int(time.time() * 1000) + SIGNING.horizon_ms + 60_000
    message = built(headers__deadline_ms=far)
    message["headers"]["signature"] = by_the_book(KEY, message)
    with pytest.raises(BadSignature, match="ahead"):
        check(message)
    with pytest.raises(InvalidRequest, match="ahead"):
        SIGNING.within(SIGNING.horizon_ms + 1)


def test_a_signed_job_always_has_a_deadline() -> None:
    assert SIGNING.within(0) == 900_000
    assert SIGNING.within(5) == 5
    assert Signing().within(0) == 0


def test_without_keys_nothing_is_signed_and_nothing_checked() -> None:
    message = built(Signing())
    assert not {"signature", "deadline_ms"} & set(message["headers"])
    assert check(built(headers__signature="nonsense"), Signing()).deadline_ms == 0


def test_keys_come_from_the_setting_or_a_file_and_are_never_shown(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"{KEY}\n\n {OTHER} \n", "utf-8")
    for given in (f"{KEY}, {OTHER}", f"file:{file}"):
        configured = Settings(signing_keys=SecretStr(given))
        signing = Signing.of(configured)
        assert signing.keys == (KEY.encode(), OTHER.encode())
        assert KEY not in f"{configured!r} {configured} {signing!r} {configured.model_dump_json()}"
        assert environment_of(configured)["MAEARI_SIGNING_KEYS"] == given, "workers under the supervisor need it"
    assert Signing.of(Settings()).keys == ()


@pytest.mark.parametrize("given", ["short", f"{KEY},short", "file:/nowhere", ",", "file:/dev/null"])
def test_a_setting_that_holds_no_keys_is_an_error_that_shows_none(given: str) -> None:
    with pytest.raises(ConfigurationInvalid) as refused:
        Signing.of(Settings(signing_keys=SecretStr(given)))
    assert refused.value.field == "signing_keys"
    assert "short" not in refused.value.message
    assert KEY not in refused.value.message
