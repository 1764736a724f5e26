"""Every bad input gets one clear failed event and result that name stage and field; no worker dies, the next job runs."""

from __future__ import annotations

import contextlib
import io
import subprocess
import wave
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from shared.contracts.base import BlobRef
from shared.errors import MaeariError
from shared.jobs import Entry
from tests.support.waiting import until

from .conftest import Cluster, speak

GOOD = "안녕하세요 오늘 기분이 어때요"
ROLES = 5
PATIENCE_S = 240.0
"""That a job may take on a starved machine."""


def silence(seconds: float, rate: int = 16_000) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(bytes(2 * int(seconds * rate)))
    return buffer.getvalue()


def converted(data: bytes, *options: str) -> bytes:
    command = ["ffmpeg", "-v", "error", "-i", "pipe:0", *options, "pipe:1"]
    return subprocess.run(command, input=data, capture_output=True, check=True).stdout


@pytest.fixture(autouse=True)
def unharmed(cluster: Cluster) -> Iterator[None]:
    """No test may cost a worker its life."""
    before = pids(cluster)
    yield
    assert pids(cluster) == before


def pids(cluster: Cluster) -> dict[str, int]:
    """The workers of all roles, waited for: on a starved machine one may not have spoken for a while."""
    found = lambda: {w.name: w.pid for w in cluster.producer.workers() if w.state == "ready"}  # noqa: E731
    return until(lambda: found() if len(found()) >= ROLES else None, "all workers speak")


def fails(cluster: Cluster, task: str, request: dict[str, Any], *, raw: bool = False) -> MaeariError:
    """The error of a job that must fail; `raw`: past the producer's own validation, as another language might."""
    producer = cluster.producer
    if raw:
        job_id = f"raw-{producer.jobs.now_ms()}-{task}"
        producer.jobs.enqueue(Entry(job_id, task, request, tenant=request.get("tenant", "default")))
    else:
        job_id = producer.submit(task, request).job_id
    terminal = [
        event
        for event in producer.follow(job_id, timeout_s=PATIENCE_S)
        if event.type in ("done", "failed", "cancelled")
    ]
    assert [event.type for event in terminal] == ["failed"], terminal
    with pytest.raises(MaeariError) as failed:
        producer.result(job_id, timeout_s=60)
    assert terminal[0].fault.stage
    assert terminal[0].fault.code == failed.value.code
    return failed.value


AUDIO: dict[str, tuple[Callable[[], bytes], str]] = {
    "an empty file": (lambda: b"", "invalid_audio"),
    "a text file named .wav": (lambda: "이것은 소리가 아닙니다".encode() * 20, "invalid_audio"),
    "a truncated header": (lambda: speak(GOOD)[:30], "invalid_audio"),
    "a tenth of a second of silence": (lambda: silence(0.1), "no_speech"),
    "five seconds of silence": (lambda: silence(5), "no_speech"),
    "half an hour": (lambda: converted(silence(1800, 8000), "-f", "flac"), "audio_too_long"),
}


@pytest.mark.parametrize("case", AUDIO)
@pytest.mark.parametrize("task", ["stt.transcribe", "turns.start"])
def test_audio_that_cannot_be_used(cluster: Cluster, case: str, task: str) -> None:
    make, code = AUDIO[case]
    request: dict[str, Any] = {"audio": cluster.upload(make()).model_dump()}
    if task == "turns.start":
        request |= {"pack": "artist", "session": "bad"}
    error = fails(cluster, task, request)
    assert (error.code, error.field) == (code, "audio")


@pytest.mark.parametrize(
    "options",
    [("-f", "mp3"), ("-f", "ogg"), ("-c:a", "aac", "-f", "adts"), ("-c:a", "libopus", "-f", "webm"), ("-ac", "2", "-ar", "44100", "-f", "wav")],
    ids=["mp3", "ogg", "aac", "webm", "stereo 44.1 kHz"],
)  # fmt: skip
def test_audio_of_any_container_is_heard(cluster: Cluster, options: tuple[str, ...]) -> None:
    audio = cluster.upload(converted(speak(GOOD), *options)).model_dump()
    job = cluster.producer.submit("stt.transcribe", {"audio": audio, "language": "ko"})
    assert cluster.producer.result(job.job_id, timeout_s=PATIENCE_S)["duration_s"] > 0.5


def test_m4a_is_heard(cluster: Cluster, tmp_path: Any) -> None:
    source, target = tmp_path / "a.wav", tmp_path / "a.m4a"
    source.write_bytes(speak(GOOD))
    subprocess.run(["ffmpeg", "-v", "error", "-i", str(source), str(target)], check=True)
    audio = cluster.upload(target.read_bytes()).model_dump()
    job = cluster.producer.submit("stt.transcribe", {"audio": audio})
    assert cluster.producer.result(job.job_id, timeout_s=PATIENCE_S)["duration_s"] > 0.5


@pytest.mark.parametrize(
    ("key", "code"),
    [
        ("default/../other/audio/x.wav", "invalid_blob"),
        ("/etc/passwd", "invalid_blob"),
        ("rival/audio/x.wav", "invalid_blob"),
        ("default/audio/nobody.wav", "blob_missing"),
        ("default/audio/../../../etc/passwd", "invalid_blob"),
        ("default\\audio\\x.wav", "invalid_blob"),
    ],
)
def test_blob_references_that_lead_elsewhere(cluster: Cluster, key: str, code: str) -> None:
    error = fails(cluster, "stt.transcribe", {"audio": {"key": key}})
    assert error.code == code


def test_a_blob_that_is_not_what_the_reference_says(cluster: Cluster) -> None:
    ref = cluster.upload(speak(GOOD))
    wrong = BlobRef(key=ref.key, sha256="0" * 64)
    assert fails(cluster, "stt.transcribe", {"audio": wrong.model_dump()}).code == "invalid_blob"


MESSAGES = [{"role": "user", "content": "안녕"}]
REQUESTS: dict[str, tuple[str, dict[str, Any], str, str]] = {
    "empty text": ("turns.start", {"pack": "artist", "session": "s", "text": "  "}, "invalid_request", "text"),
    "neither text nor audio": ("turns.start", {"pack": "artist", "session": "s"}, "invalid_request", "(request)"),
    "a NUL": ("turns.start", {"pack": "artist", "session": "s", "text": "a\0b"}, "invalid_request", "text"),
    "a lone surrogate": ("tts.synthesize", {"text": "a\ud800b", "voice": "artist"}, "invalid_request", "text"),
    "unknown pack": ("turns.start", {"pack": "nobody", "session": "s", "text": "안녕"}, "unknown_pack", "pack"),
    "unknown tenant": ("rag.embed", {"tenant": "nobody", "texts": ["안녕"]}, "unknown_tenant", "tenant"),
    "a pack that climbs": ("turns.start", {"pack": "../x", "session": "s", "text": "안녕"}, "invalid_request", "pack"),
    "unknown voice": ("tts.synthesize", {"text": "안녕", "voice": "nobody"}, "unknown_voice", "voice"),
    "200,000 characters to speak": ("tts.synthesize", {"text": "가" * 200_000, "voice": "artist"}, "text_too_long", "text"),
    "200,000 characters to answer": ("llm.generate", {"messages": [{"role": "user", "content": "가" * 200_000}]}, "invalid_request", "messages"),
    "unknown adapter": ("llm.generate", {"messages": MESSAGES, "adapter": "nobody"}, "unknown_adapter", "adapter"),
    "unknown model": ("llm.generate", {"messages": MESSAGES, "model": "gpt-9"}, "unknown_model", "model"),
    "negative temperature": ("llm.generate", {"messages": MESSAGES, "sampling": {"temperature": -1.0}}, "invalid_request", "sampling.temperature"),
    "absurd top_p": ("llm.generate", {"messages": MESSAGES, "sampling": {"top_p": 7.0}}, "invalid_request", "sampling.top_p"),
    "no tokens": ("llm.generate", {"messages": MESSAGES, "sampling": {"max_tokens": 0}}, "invalid_request", "sampling.max_tokens"),
    "an unknown field": ("llm.generate", {"messages": MESSAGES, "colour": "blue"}, "invalid_request", "colour"),
    "a missing field": ("llm.generate", {}, "invalid_request", "messages"),
    "a wrong type": ("rag.embed", {"texts": "안녕"}, "invalid_request", "texts"),
    "an invalid schema": ("llm.generate", {"messages": MESSAGES, "json_schema": {"type": "banana"}}, "invalid_schema", "json_schema"),
    "an unknown collection": ("rag.retrieve", {"query": "안녕", "collections": [{"name": "nobody"}]}, "unknown_collection", "collections.0.name"),
    "speak outside of a turn": ("llm.generate", {"messages": MESSAGES, "speak": {"voice": "artist"}}, "invalid_request", "speak"),
    "an array instead of a request": ("rag.embed", [], "invalid_request", "(request)"),  # type: ignore[dict-item]
}  # fmt: skip


@pytest.mark.parametrize("case", REQUESTS)
def test_requests_that_cannot_be_run(cluster: Cluster, case: str) -> None:
    task, request, code, field = REQUESTS[case]
    if isinstance(request, list):
        cluster.producer.jobs.enqueue(Entry("array", task, request, tenant="default"))
        with pytest.raises(MaeariError) as failed:
            cluster.producer.result("array", timeout_s=PATIENCE_S)
        error = failed.value
    else:
        error = fails(cluster, task, request, raw=True)
    assert (error.code, error.field) == (code, field)
    assert len(error.message) > 20


def test_an_unknown_tenants_pack_voice_is_not_everybodys(cluster: Cluster) -> None:
    recording = cluster.upload(
        speak("안녕하세요. 오늘은 날씨가 참 좋네요. 저는 지금 산책을 하고 있어요. " * 2), "v.wav", "alice"
    )
    request = {"tenant": "alice", "voice": "own", "audio": [recording.model_dump()]}
    cluster.producer.result(cluster.producer.submit("tts.enrol", request).job_id, timeout_s=PATIENCE_S)
    assert fails(cluster, "tts.synthesize", {"tenant": "bob", "text": "안녕", "voice": "own"}).code == "unknown_voice"


def test_a_schema_that_no_text_can_satisfy_in_time(cluster: Cluster) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "minLength": 400}}, "required": ["a"]}
    request = {"messages": MESSAGES, "json_schema": schema, "sampling": {"max_tokens": 8}}
    error = fails(cluster, "llm.generate", request)
    assert error.code == "unsatisfied_schema"


def test_too_short_a_recording_for_a_voice(cluster: Cluster) -> None:
    request = {"voice": "short", "audio": [cluster.upload(speak("안녕")).model_dump()]}
    error = fails(cluster, "tts.enrol", request)
    assert (error.code, error.field) == ("invalid_audio", "audio")


def test_bytes_in_a_queue_that_are_no_message_stop_nobody(cluster: Cluster) -> None:
    client = cluster.producer.jobs.client
    before = len(cluster.producer.dead())
    for queue in ("turns", "stt", "llm", "tts", "rag", "knowledge"):
        client.lpush(queue, "{", "[]", '{"headers": {}}', '{"body": 5, "headers": {"task": "rag.embed", "id": 7}}')
    job = cluster.producer.submit("turns.start", {"pack": "parent", "session": "after", "text": "안녕"})
    assert cluster.producer.result(job.job_id, timeout_s=PATIENCE_S)["reply"]
    until(lambda: len(cluster.producer.dead()) >= before + 24, "each of them is a dead letter")
    assert len(cluster.producer.dead()) == before + 24
    cluster.producer.purge()


def test_nothing_is_left_behind_that_does_not_expire(cluster: Cluster) -> None:
    client, keys = cluster.producer.jobs.client, cluster.producer.jobs.keys
    permanent = {keys.open, keys.dead, keys.config}

    def lasting() -> set[str]:
        found = {key for key in client.scan_iter("*", count=1000) if client.ttl(key) == -1}
        return {key for key in found - permanent if not key.startswith("_kombu.binding")}

    with contextlib.suppress(AssertionError):  # a stage of an earlier test may be on its way out; told below
        until(lambda: not lasting(), "nothing lasts")
    assert lasting() == set()
