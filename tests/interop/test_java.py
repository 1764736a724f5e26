"""What the Java client does at a real cluster, and that the Python producer would have seen the same."""

from __future__ import annotations

from typing import Any

import pytest

from shared import envelope
from shared.contracts.catalog import CATALOG
from shared.generated import GOLDEN
from tests.support.figures import figure
from tests.support.java import JavaError
from tests.support.waiting import until

from .conftest import REPLY, Interop

TEXT = "좋아하는 색이 뭐야? 🌊👨‍👩‍👧‍👦🇰🇷 \u1112\u1161\u11ab '\"\\ </script> \t끝"
"""Hangul in letters of its own (which become one syllable, NFC), flags, a family, and what quoting goes wrong with."""
SHORT = {"max_tokens": 30}


def turn(**fields: Any) -> dict[str, Any]:
    """What a turn asks for."""
    return {"tenant": "t", "pack": "artist", "session": "java", "sampling": SHORT} | fields


def without_none(value: Any) -> Any:
    """A record writes its nulls, Python's result does not."""
    if isinstance(value, dict):
        return {name: without_none(part) for name, part in value.items() if part is not None}
    return [without_none(part) for part in value] if isinstance(value, list) else value


def lasting(result: dict[str, Any]) -> dict[str, Any]:
    """The part of a turn's result that is the same for the same question: without ids and times."""
    kept = ("pack", "transcript", "context", "reply", "adapter", "voice", "finish_reason", "usage", "audio_duration_s")
    spoken = [(one["seq"], one["text"], one["duration_s"], one["audio"]["sha256"]) for one in result["sentences"]]
    return {name: result.get(name) for name in kept} | {"spoken": spoken, "audio": result["audio"]["sha256"]}


def assert_whole(events: list[dict[str, Any]], end: str = "done") -> None:
    """Numbered without gaps, with one end."""
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert [event["type"] for event in events if event["type"] in ("done", "failed", "cancelled")] == [end]


def joined(events: list[dict[str, Any]]) -> str:
    """The reply by the offset rule."""
    reply = ""
    for event in events:
        if event["type"] == "text.delta":
            reply = reply[: event["offset"]] + event["text"]
    return reply


# --- turns ---


@pytest.mark.parametrize("spoken", [False, True], ids=["text", "voice"])
def test_a_turn_is_followed_to_its_end_with_the_result_that_python_gets(interop: Interop, spoken: bool) -> None:
    java, producer = interop.java, interop.cluster.producer
    question = (
        {"audio": java.upload(b"RIFF, whatever was said", "audio/webm;codecs=opus")} if spoken else {"text": TEXT}
    )
    job_id = java.submit("turns.start", turn(**question))
    events = java.do("follow", job_id=job_id)
    assert_whole(events)
    assert joined(events) == events[-1]["result"]["reply"]
    told = {event["type"] for event in events}
    assert {"accepted", "context", "text.delta", "audio"} <= told
    assert ("transcript" in told) == spoken

    mine, theirs = java.do("result", job_id=job_id, task="turns.start"), producer.result(job_id)
    assert without_none(mine) == without_none(theirs)
    seen = [event.model_dump(mode="json") for event in producer.follow(job_id)]
    assert without_none(events) == without_none(seen)

    same = producer.submit("turns.start", turn(**question, session="python"))
    assert lasting(producer.result(same.job_id, timeout_s=120)) == lasting(mine)
    assert java.fetch(mine["audio"]) == (interop.blobs / theirs["audio"]["key"]).read_bytes()


def test_text_arrives_and_comes_back_byte_for_byte(interop: Interop) -> None:
    job_id = interop.java.submit("turns.start", turn(text=TEXT, speech=False, session="bytes"))
    result = interop.java.do("result", job_id=job_id, task="turns.start")
    assert result["transcript"].encode() == TEXT.replace("\u1112\u1161\u11ab", "한").encode()
    assert result["reply"].encode() == REPLY[: 2 * SHORT["max_tokens"]].rstrip().encode()
    assert joined(interop.java.do("follow", job_id=job_id)).encode() == result["reply"].encode()


@pytest.mark.parametrize("task", ["rag.embed", "tts.synthesize", "stt.transcribe", "llm.generate"])
def test_single_stages_give_what_python_gets(interop: Interop, task: str) -> None:
    request: dict[str, Any] = {
        "rag.embed": {"texts": ["안녕", "🌊"]},
        "tts.synthesize": {"text": "안녕하세요. 반가워요!", "voice": "artist"},
        "stt.transcribe": {"audio": interop.java.upload(b"sound")},
        "llm.generate": {"messages": [{"role": "user", "content": "안녕"}], "sampling": SHORT, "stream": True},
    }[task]
    job_id = interop.java.submit(task, request)
    mine = interop.java.do("result", job_id=job_id, task=task)
    assert without_none(mine) == without_none(interop.cluster.producer.result(job_id))
    assert interop.cluster.view(job_id).tenant == "t"


def test_two_hundred_turns_at_once_share_one_reader(interop: Interop) -> None:
    flood = interop.java.begin("flood", count=200, timeout_ms=300_000)
    client, readers = interop.cluster.producer.jobs.client, set()

    def done() -> bool:
        readers.update(one["id"] for one in client.client_list() if one["cmd"] == "xread")
        return flood.done()

    until(done, "all turns have ended", timeout_s=320, every_s=0.05)
    assert 1 <= len(readers) <= 10  # one at a time; a starved Redis may have been left for a fresh connection
    heard = flood.result()
    assert len(heard) == 200
    took = []
    for number, (job_id, events) in enumerate(heard.items()):
        assert job_id == f"flood.{number}"
        assert_whole(events)
        assert {event["job_id"] for event in events} == {job_id}
        result = events[-1]["result"]
        assert (result["transcript"], result["session"]) == (f"질문 {number} 🌊", f"flood-{number}")
        assert joined(events) == result["reply"]
        assert bool(result["sentences"]) == (number % 10 == 0)
        took.append(result["total_ms"])
    ends = [events[-1]["at"] for events in heard.values()]
    starts = [events[0]["at"] for events in heard.values()]
    figure(
        f"200 turns through one reader: all in {(max(ends) - min(starts)) / 1000:.1f} s, the slowest {max(took):.0f} ms"
    )


# --- ends that were decided ---


def test_the_same_id_twice_is_one_job(interop: Interop) -> None:
    request = {"texts": ["안녕"]}
    first = interop.java.do("submit", task="rag.embed", request=request, job_id="java:twice")
    interop.java.do("result", job_id="java:twice", task="rag.embed")
    again = interop.java.do("submit", task="rag.embed", request=request, job_id="java:twice")
    assert (first["created"], again["created"]) == (True, False)
    interop.cluster.assert_ran_once("java:twice")
    assert not interop.cluster.producer.submit("rag.embed", request, job_id="java:twice").created


def test_a_generation_is_cancelled_in_the_middle(interop: Interop) -> None:
    request = {"messages": [{"role": "user", "content": "길게"}], "stream": True}
    job_id = interop.java.submit("llm.generate", request)
    begun = interop.java.do("follow", job_id=job_id, until="text.delta")
    assert interop.java.do("cancel", job_id=job_id) is True
    rest = interop.java.do("follow", job_id=job_id, after=begun[-1]["seq"])
    assert_whole(begun + rest, "cancelled")
    assert len(joined(begun + rest)) < len(REPLY)
    with pytest.raises(JavaError) as ended:
        interop.java.do("result", job_id=job_id, task="llm.generate")
    assert (ended.value.kind, ended.value.code) == ("JobCancelledException", "cancelled")
    until(lambda: interop.cluster.running("llm-1") == 0, "the engine has stopped")


def test_a_job_that_has_ended_is_not_cancelled_and_an_unknown_one_is_named(interop: Interop) -> None:
    job_id = interop.java.submit("rag.embed", {"texts": ["안녕"]})
    interop.java.do("result", job_id=job_id, task="rag.embed")
    assert interop.java.do("cancel", job_id=job_id) is False
    for what in ("cancel", "follow", "result"):
        with pytest.raises(JavaError) as unknown:
            interop.java.do(what, job_id="java.nobody", task="rag.embed")
        assert (unknown.value.kind, unknown.value.code) == ("JobNotFoundException", "job_not_found")


def test_a_deadline_ends_a_job(interop: Interop) -> None:
    request = {"messages": [{"role": "user", "content": "길게"}], "stream": True}
    job_id = interop.java.submit("llm.generate", request, deadline_ms=700)
    with pytest.raises(JavaError) as late:
        interop.java.do("result", job_id=job_id, task="llm.generate")
    assert (late.value.kind, late.value.code) == ("DeadlineExceededException", "deadline_exceeded")


def test_a_caller_who_goes_away_ends_a_job(interop: Interop) -> None:
    request = {"messages": [{"role": "user", "content": "길게"}], "stream": True}
    job_id = interop.java.submit("llm.generate", request, presence=True)
    with pytest.raises(JavaError) as gone:
        interop.java.do("result", job_id=job_id, task="llm.generate")
    assert (gone.value.kind, gone.value.code) == ("CallerGoneException", "caller_gone")
    attended = interop.java.submit("llm.generate", request | {"sampling": {"max_tokens": 150}}, presence=True)
    interop.java.do("keep_alive", job_id=attended)  # for 15 s
    assert interop.java.do("result", job_id=attended, task="llm.generate")["finish_reason"] == "length"


# --- refusals ---


def test_a_full_queue_says_when_to_come_back(interop: Interop) -> None:
    jobs = interop.cluster.producer.jobs
    jobs.client.hset(jobs.keys.config, "queue_limit", 0)
    try:
        with pytest.raises(JavaError) as full:
            interop.java.submit("rag.embed", {"texts": ["안녕"]}, job_id="java.full")
    finally:
        jobs.client.hset(jobs.keys.config, "queue_limit", 10_000)
    assert (full.value.kind, full.value.code) == ("QueueFullException", "queue_full")
    assert 100 <= full.value.described["retry_after_ms"] <= 60_000
    assert interop.java.submit("rag.embed", {"texts": ["안녕"]}, job_id="java.full") == "java.full"


REJECTED: dict[str, tuple[str, dict[str, Any], str, str]] = {
    "unknown pack": ("turns.start", turn(pack="nobody", text="안녕"), "unknown_pack", "pack"),
    "neither text nor audio": ("turns.start", turn(), "invalid_request", "(request)"),
    "a lone surrogate": ("turns.start", turn(text="a\ud800b"), "invalid_request", "text"),
    "a NUL": ("turns.start", turn(text="a\0b"), "invalid_request", "text"),
    "an unknown field": ("turns.start", turn(text="안녕", colour="blue"), "invalid_request", "colour"),
    "a wrong type": ("rag.embed", {"texts": "안녕"}, "invalid_request", "texts"),
    "somebody else's blob": ("stt.transcribe", {"audio": {"key": "rival/audio/x.wav"}}, "invalid_blob", "audio"),
    "a blob that is not there": ("stt.transcribe", {"audio": {"key": "t/audio/x.wav"}}, "blob_missing", "audio"),
}


@pytest.mark.parametrize("case", REJECTED)
def test_what_cannot_be_run_is_named_with_its_field(interop: Interop, case: str) -> None:
    task, request, code, field = REJECTED[case]
    job_id = interop.java.submit(task, request, raw=True)
    with pytest.raises(JavaError) as rejected:
        interop.java.do("result", job_id=job_id, task=task)
    assert (rejected.value.kind, rejected.value.code, rejected.value.field) == ("JobRejectedException", code, field)
    assert rejected.value.described["stage"] == task


@pytest.mark.parametrize(("task", "job_id", "field"), [("os.system", "java.1", "task"), ("rag.embed", "a/b", "job_id")])
def test_what_is_no_job_is_refused_before_it_is_sent(interop: Interop, task: str, job_id: str, field: str) -> None:
    with pytest.raises(JavaError) as refused:
        interop.java.submit(task, {"texts": ["안녕"]}, raw=True, job_id=job_id)
    assert (refused.value.kind, refused.value.field) == ("InvalidRequestException", field)


# --- trouble on the way ---


def test_a_stream_goes_on_in_the_middle_after_a_dropped_connection(interop: Interop) -> None:
    request = {"messages": [{"role": "user", "content": "길게"}], "stream": True, "sampling": {"max_tokens": 100}}
    job_id = interop.java.submit("llm.generate", request)
    following = interop.java.begin("follow", job_id=job_id)
    for kind in ("started", "text.delta"):
        interop.cluster.until_event(job_id, kind)
        interop.proxy.reset()
    events = following.result()
    assert_whole(events)
    assert joined(events) == REPLY[:200]
    middle = events[len(events) // 2]["seq"]
    interop.proxy.reset()
    assert interop.java.do("follow", job_id=job_id, after=middle) == events[middle:]


def test_a_connection_that_hangs_is_left_for_another(interop: Interop) -> None:
    request = {"messages": [{"role": "user", "content": "길게"}], "stream": True, "sampling": {"max_tokens": 60}}
    job_id = interop.java.submit("llm.generate", request)
    following = interop.java.begin("follow", job_id=job_id)
    interop.cluster.until_event(job_id, "text.delta")
    assert interop.proxy.stall() >= 1
    assert_whole(following.result())
    interop.proxy.reset()  # or Redis would take those that hang for readers


def test_scripts_that_redis_has_forgotten_are_loaded_again(interop: Interop) -> None:
    interop.java.submit("rag.embed", {"texts": ["안녕"]})
    interop.cluster.producer.jobs.client.script_flush()
    job_id = interop.java.submit("rag.embed", {"texts": ["안녕"]})
    assert interop.java.do("result", job_id=job_id, task="rag.embed")["dimension"] > 0


def test_broken_connections_are_mended_before_anybody_notices(interop: Interop) -> None:
    for number in range(5):
        interop.proxy.reset()
        assert interop.java.submit("rag.embed", {"texts": ["안녕"]}, job_id=f"java.mended.{number}")
    interop.cluster.wait_ended(*(f"java.mended.{number}" for number in range(5)))


# --- messages ---


@pytest.mark.parametrize("task", GOLDEN)
def test_the_message_that_java_writes_is_the_golden_one(interop: Interop, task: str) -> None:
    arguments = interop.java.do("arguments", task=task, request=GOLDEN[task], job_id="spring.0001")
    spec = CATALOG[task]
    assert arguments[:9] == ["maeari:", "spring.0001", task, spec.queue, "0", "acme", "0", "0", str(spec.max_attempts)]
    checked = envelope.check(arguments[9], spec.queue)
    golden = envelope.check(envelope.build(task, "spring.0001", GOLDEN[task]), spec.queue)
    assert (checked.task, checked.job_id, checked.request) == (golden.task, golden.job_id, golden.request)
