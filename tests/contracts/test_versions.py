"""Releases run side by side: old producers with new workers, new producers with old workers, old workers beside new ones."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from shared import envelope, generated, streams
from shared import jobs as jobs_module
from shared.attempt import parse
from shared.claims import Claim
from shared.contracts.base import Fault
from shared.contracts.catalog import CATALOG
from shared.errors import InvalidRequest
from shared.jobs import Entry, Jobs, Report, Stage
from shared.keys import Keys
from tests.support.servers import RedisServer

RELEASES = sorted(path for path in (Path(__file__).parent / "releases").iterdir() if path.is_dir())
TURN = {"pack": "artist", "session": "s", "text": "안녕"}
FAULT = Fault(code="engine_failed", message="The engine failed on this job.", stage="rag.embed", retryable=True)


@pytest.fixture(params=RELEASES, ids=lambda path: path.name)
def release(request: pytest.FixtureRequest) -> Path:
    """What an earlier release spoke."""
    path: Path = request.param
    return path


def schema(release: Path, name: str) -> Any:
    return json.loads((release / "schemas" / name).read_text("utf-8"))


# --- producers and workers ---


def test_messages_of_an_old_producer_are_run(release: Path) -> None:
    found = sorted((release / "schemas" / "golden").glob("*.json"))
    assert found
    for file in found:
        checked = envelope.check(file.read_text("utf-8"))
        parse(CATALOG[checked.task], checked.request)


def test_an_old_worker_takes_what_a_new_producer_sends(release: Path) -> None:
    for task, request in generated.GOLDEN.items():
        if (release / "schemas" / f"{task}.request.json").is_file():
            errors = Draft202012Validator(schema(release, f"{task}.request.json")).iter_errors(request)
            assert [error.message for error in errors] == [], task


def test_requests_ask_for_nothing_that_an_old_producer_does_not_send(release: Path) -> None:
    for file in (release / "schemas").glob("*.request.json"):
        task = file.name.removesuffix(".request.json")
        assert broken(schema(release, file.name), CATALOG[task].request.model_json_schema(), grows=False) == [], task


@pytest.mark.parametrize("kind", ["*.result.json", "events.json"])
def test_results_and_events_keep_what_an_old_producer_reads(release: Path, kind: str) -> None:
    files = list((release / "schemas").glob(kind))
    assert files
    for file in files:
        today = json.loads((generated.ROOT / "shared" / "schemas" / file.name).read_text("utf-8"))
        assert broken(schema(release, file.name), today, grows=True) == [], file.name


def broken(old: dict[str, Any], new: dict[str, Any], *, grows: bool) -> list[str]:
    """What of `old` no longer holds in `new`; `grows`: what is read may gain fields, what is sent may not need more."""
    problems = []
    before, after = _objects(old), _objects(new)
    for name, fields in before.items():
        now = after.get(name, {"properties": {}, "required": ()})
        problems += [f"{name}.{field} is gone" for field in fields["properties"].keys() - now["properties"].keys()]
        must, were = set(now["required"]), set(fields["required"])
        problems += [f"{name}.{field} is now optional" for field in were - must if grows]
        problems += [f"{name}.{field} is now required" for field in must - were if not grows]
        for field in fields["properties"].keys() & now["properties"].keys():
            if _types(fields["properties"][field]) - _types(now["properties"][field]) and not grows:
                problems.append(f"{name}.{field} takes less")
            if _types(now["properties"][field]) - _types(fields["properties"][field]) and grows:
                problems.append(f"{name}.{field} has another type")
    return problems


def _objects(root: dict[str, Any]) -> dict[str, dict[str, Any]]:
    named = {**root.get("$defs", {}), "(itself)": root}
    return {
        name: {"properties": found["properties"], "required": found.get("required", ())}
        for name, found in named.items()
        if "properties" in found
    }


def _types(field: dict[str, Any]) -> set[str]:
    options = field.get("anyOf", [field])
    return {str(option.get("type") or option.get("$ref") or option.get("const")) for option in options}


def test_a_changed_contract_would_be_noticed() -> None:
    old = {"properties": {"a": {"type": "string"}, "b": {"type": "integer"}}, "required": ["a"]}
    assert broken(old, old, grows=True) == broken(old, old, grows=False) == []
    assert broken(old, {"properties": {"a": {"type": "string"}}, "required": ["a"]}, grows=True) == [
        "(itself).b is gone"
    ]
    assert broken(old, old | {"required": []}, grows=True) == ["(itself).a is now optional"]
    assert broken(old, old | {"required": ["a", "b"]}, grows=False) == ["(itself).b is now required"]
    number = {"properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, "required": ["a"]}
    assert broken(old, number, grows=True) == ["(itself).a has another type"]
    assert broken(old, number, grows=False) == ["(itself).a takes less"]


def test_a_request_of_another_contract_is_refused_by_name() -> None:
    for request, field in (({"schema_version": 2}, "schema_version"), ({"mood": "happy"}, "mood")):
        with pytest.raises(InvalidRequest) as refused:
            parse(CATALOG["turns.start"], TURN | request)
        assert refused.value.field == field


def test_a_reader_passes_over_events_and_fields_that_it_does_not_know(redis_server: RedisServer) -> None:
    client, keys = redis_server.client, Keys("maeari:")
    client.delete(keys.events("newer"))
    entries = (
        ("accepted", {"task": "rag.embed", "region": "kr"}),
        ("mood", {"joy": 1}),
        ("done", {"result": {"x": 1}}),
    )
    for number, (kind, data) in enumerate(entries, 1):
        client.xadd(keys.events("newer"), {"type": kind, "at": 1, "data": json.dumps(data)}, id=f"{number}-0")
    assert [(e.type, e.seq) for e in streams.follow(Jobs(client, keys), "newer", timeout_s=60)] == [
        ("accepted", 1),
        ("done", 3),
    ]


# --- workers beside workers ---


class OldJobs(Jobs):
    """Today's calls of an old release's scripts; what those do not answer yet is filled in."""

    def _call(self, script: str, args: Sequence[Any]) -> Any:
        answer = super()._call(script, args)
        granted = script == "claim" and answer[0] == "ok"
        return [*answer, 0, []] if granted and len(answer) == 9 else answer


def scripts_of(release: Path, server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Jobs:
    """The job layer as that release has it: its scripts under today's calls."""

    def source(name: str) -> str:
        return "\n".join((release / "lua" / f"{part}.lua").read_text("utf-8") for part in ("common", name))

    with monkeypatch.context() as patch:
        patch.setattr(jobs_module, "_source", source)
        old = OldJobs(server.client, Keys("maeari:"))
        for file in (release / "lua").glob("*.lua"):
            if file.stem != "common":
                old._script(file.stem)
    return old


def test_two_releases_work_on_the_same_records(
    release: Path, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = redis_server.client
    old, new = scripts_of(release, redis_server, monkeypatch), Jobs(client, Keys("maeari:"))
    for number, hands in enumerate(itertools.product((old, new), repeat=4)):
        producer, first, second, last = hands
        client.flushall()
        job_id = f"mixed-{number}"
        assert producer.enqueue(Entry(job_id, "turns.start", TURN, tenant="t"))
        claim = first.claim(job_id, "a")
        assert isinstance(claim, Claim)
        final = Stage(f"{job_id}/finish", "turns.finish", {"tenant": "t"})
        embed = Stage(f"{job_id}/embed", "rag.embed", {"tenant": "t", "texts": ["안녕"]})
        assert first.report(claim, Report(stages=[embed], ending="wait", last=final, number=1)) == "ok"
        tried = first.claim(embed.id, "b")
        assert isinstance(tried, Claim)
        assert second.fail(tried, FAULT, retry_ms=0) == "retry"
        last.reconcile()
        again = second.claim(embed.id, "c")
        assert isinstance(again, Claim) and again.attempt == 2
        assert last.report(again, Report(ending="done", result={"n": 1}, number=1)) == "ok"
        ending = last.claim(final.id, "d")
        assert isinstance(ending, Claim)
        assert first.report(ending, Report(ending="done", result={"n": 2}, ends_job=True, number=1)) == "ok"
        assert [e.type for e in streams.follow(new, job_id, timeout_s=60)][-1] == "done"
        assert client.zcard(new.keys.open) == 0
