"""A spoken question comes back as a spoken answer, through four real engines."""

from __future__ import annotations

import io
import wave
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from shared.packs import load_pack, pack_ids

from .conftest import Cluster, speak

QUESTION = "이름이 뭐야"
PATIENCE_S = 300.0
"""That a job may take on a starved machine."""


def _wav(cluster: Cluster, tmp_path: Path) -> str:
    file = tmp_path / "question.wav"
    file.write_bytes(speak(QUESTION))
    return str(file)


def _seconds(path: str) -> float:
    with wave.open(path, "rb") as file:
        return file.getnframes() / file.getframerate()


@pytest.mark.parametrize("pack", pack_ids())
def test_a_spoken_question_is_answered_by_voice(cluster: Cluster, tmp_path: Path, pack: str) -> None:
    answer: dict[str, Any] = cluster.json(
        "ask", "--pack", pack, "--audio", _wav(cluster, tmp_path), "--out", str(tmp_path)
    )
    assert answer["transcript"].strip()
    assert answer["reply"].strip()
    assert answer["adapter"] == load_pack(pack).adapter
    assert len(answer["context"]) >= 1
    assert all(source["text"] and source["document"] for source in answer["context"])
    assert sum(_seconds(path) for path in answer["audio_files"]) <= _seconds(answer["audio"]) + 0.01
    assert _seconds(answer["audio"]) > 0.3
    assert {timing["stage"] for timing in answer["timings"]} >= {
        "stt.transcribe", "rag.retrieve", "llm.generate", "tts.synthesize",
    }  # fmt: skip
    assert 0 < answer["ttft_ms"] <= answer["ttfa_ms"] <= answer["total_ms"]


def test_the_stream_tells_the_turn_in_order(cluster: Cluster) -> None:
    request = {"pack": "artist", "session": "stream", "audio": cluster.upload(speak(QUESTION)).model_dump()}
    job = cluster.producer.submit("turns.start", request)
    events = list(cluster.producer.follow(job.job_id, timeout_s=PATIENCE_S))
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    kinds = [event.type for event in events if event.type != "started"]
    assert kinds[:3] == ["accepted", "transcript", "context"]
    assert kinds[-1] == "done"
    reply = ""
    for event in events:
        if event.type == "text.delta":
            reply = reply[: event.offset] + event.text
    spoken = sorted((event.sentence, event.text) for event in events if event.type == "audio")
    assert [sentence for sentence, _ in spoken] == list(range(len(spoken)))
    assert "".join("".join(text for _, text in spoken).split()) == "".join(reply.split())
    assert cluster.producer.result(job.job_id)["reply"] == reply


def test_a_resumed_reader_misses_nothing(cluster: Cluster) -> None:
    job = cluster.producer.submit("turns.start", {"pack": "parent", "session": "resume", "text": "오늘 저녁 뭐야"})
    everything = list(cluster.producer.follow(job.job_id, timeout_s=PATIENCE_S))
    middle = everything[len(everything) // 2].seq
    assert list(cluster.producer.follow(job.job_id, after=middle, timeout_s=PATIENCE_S)) == everything[middle:]


def test_two_packs_answer_at_once_and_sessions_are_kept_apart(cluster: Cluster) -> None:
    def ask(number: int) -> dict[str, Any]:
        pack = pack_ids()[number % 2]
        request = {"pack": pack, "session": f"both-{number}", "text": "뭐 좋아해?"}
        job = cluster.producer.submit("turns.start", request, job_id=f"both-{number}")
        return cluster.producer.result(job.job_id, timeout_s=PATIENCE_S)

    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(ask, range(6)))
    assert [result["adapter"] for result in results] == [load_pack(pack_ids()[n % 2]).adapter for n in range(6)]
    assert all(result["audio_duration_s"] > 0 for result in results)
    keys = cluster.producer.jobs.keys
    for number in range(6):
        session = keys.session("default", pack_ids()[number % 2], f"both-{number}")
        assert cluster.producer.jobs.client.llen(session) == 1


def test_any_celery_client_finds_the_result_under_the_job_id(cluster: Cluster) -> None:
    from celery import Celery

    url = cluster.environment["MAEARI_REDIS_URL"]
    job = cluster.producer.submit(
        "turns.start", {"pack": "artist", "session": "celery", "text": "안녕", "speech": False}
    )
    stored = Celery(broker=url, backend=url).AsyncResult(job.job_id).get(timeout=PATIENCE_S)
    assert stored["reply"] == cluster.producer.result(job.job_id)["reply"]
    assert stored["audio"] is None


def test_speech_starts_before_the_text_ends(cluster: Cluster) -> None:
    """A reply so long that it must be spoken in several pieces."""
    sampling = {"temperature": 0.8, "min_tokens": 150, "max_tokens": 180, "seed": 3}
    request = {"pack": "artist", "session": "early", "text": "자기소개 길게 해줘", "sampling": sampling}
    job = cluster.producer.submit("turns.start", request)
    events = list(cluster.producer.follow(job.job_id, timeout_s=PATIENCE_S))
    assert len([event for event in events if event.type == "audio"]) >= 2
    view = cluster.producer.job(job.job_id)
    assert view is not None
    stages = {stage.id.removeprefix(f"{job.job_id}/"): stage for stage in view.stages}
    assert stages["tts/0"].created_ms < (stages["llm"].finished_ms or 0)


def test_single_stages_run_alone(cluster: Cluster) -> None:
    producer = cluster.producer

    def run(task: str, **request: Any) -> dict[str, Any]:
        return producer.result(producer.submit(task, request).job_id, timeout_s=PATIENCE_S)

    audio = cluster.upload(speak(QUESTION)).model_dump()
    assert run("stt.transcribe", audio=audio, language="ko")["text"]
    speech = run("tts.synthesize", text="안녕하세요. 반가워요!", voice="artist")
    assert len(speech["sentences"]) == 2
    messages = [{"role": "user", "content": "안녕"}]
    written = run("llm.generate", messages=messages, sampling={"max_tokens": 8, "temperature": 0.0})
    assert written["usage"]["completion_tokens"] <= 8
    embedded = run("rag.embed", texts=["안녕", "하늘"])
    assert (len(embedded["vectors"]), len(embedded["vectors"][0])) == (2, embedded["dimension"])
    assert run("rag.retrieve", query="무슨 색을 좋아해", pack="artist")["sources"]


def test_knowledge_is_added_found_listed_and_deleted_per_tenant(cluster: Cluster) -> None:
    producer = cluster.producer

    def run(task: str, tenant: str = "acme", **request: Any) -> dict[str, Any]:
        return producer.result(producer.submit(task, {"tenant": tenant} | request).job_id, timeout_s=PATIENCE_S)

    document = {"id": "rules", "text": "회의는 매주 화요일 오전에 합니다.", "metadata": {"category": "office"}}
    assert run("knowledge.add", collection="handbook", documents=[document])["chunks"] == 1
    query = {"query": "회의는 언제 해?", "collections": [{"name": "handbook"}]}
    assert "화요일" in run("rag.retrieve", **query)["sources"][0]["text"]
    assert run("rag.retrieve", **query, filters={"category": "other"})["sources"] == []
    assert [found["name"] for found in run("knowledge.list")["collections"]] == ["handbook"]
    assert run("knowledge.list", tenant="rival")["collections"] == []
    assert run("knowledge.reembed", collection="handbook")["chunks"] == 1
    run("knowledge.delete", collection="handbook")
    assert run("knowledge.list")["collections"] == []


def test_a_voice_is_enrolled_and_speaks(cluster: Cluster) -> None:
    producer = cluster.producer
    recording = cluster.upload(
        speak("안녕하세요. 오늘은 날씨가 참 좋네요. 저는 지금 산책을 하고 있어요. " * 2), "voice.wav"
    )
    request = {"voice": "mine", "audio": [recording.model_dump()]}
    first = producer.result(producer.submit("tts.enrol", request).job_id, timeout_s=PATIENCE_S)
    again = producer.result(producer.submit("tts.enrol", request).job_id, timeout_s=PATIENCE_S)
    assert (first["cached"], again["cached"], first["digest"]) == (False, True, again["digest"])
    spoken = producer.result(
        producer.submit("tts.synthesize", {"text": "안녕!", "voice": "mine"}).job_id, timeout_s=PATIENCE_S
    )
    assert spoken["duration_s"] > 0.1


def test_status_names_every_role_its_engines_and_its_queue(cluster: Cluster) -> None:
    status = cluster.json("status")
    assert {worker["role"] for worker in status["workers"]} == {"conductor", "llm", "stt", "tts", "rag"}
    assert all(worker["state"] == "ready" for worker in status["workers"])
    assert {"turns", "stt", "llm", "tts", "rag", "knowledge"} <= set(status["queues"])
    named = {worker["role"]: [engine["version"] for engine in worker["engines"]] for worker in status["workers"]}
    assert all(named[role] for role in ("llm", "stt", "tts", "rag"))


def test_wav_files_have_sound_in_them(cluster: Cluster) -> None:
    producer = cluster.producer
    job = producer.submit("tts.synthesize", {"text": "안녕하세요", "voice": "parent"})
    key = producer.result(job.job_id, timeout_s=PATIENCE_S)["audio"]["key"]
    with wave.open(io.BytesIO((cluster.home / "blobs" / key).read_bytes()), "rb") as file:
        samples = memoryview(file.readframes(file.getnframes())).cast("h")
    assert max(samples) > 1000
