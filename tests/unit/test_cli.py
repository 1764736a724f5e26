"""The `maeari` command over a scripted producer and a folder of blobs: what people and programs get to see."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from shared import wav
from shared.blobs import Blobs, open_store
from shared.cli import demo, show
from shared.cli.knowledge import document_id
from shared.cli.root import app
from shared.cli.tools import Client, Tools, roles_for
from shared.cli.turn import Turn, by_stage
from shared.contracts.base import BlobRef, Request
from shared.contracts.catalog import CATALOG
from shared.contracts.events import EVENT, Event
from shared.contracts.status import JobView, QueueDepth, WorkerStatus
from shared.contracts.turn import TurnResult
from shared.errors import BrokerUnavailable, EngineFailed, JobNotFound
from shared.jobs import DeadLetter
from shared.producer import Producer, Submitted
from shared.protocols import Waveform

TONE = Waveform(b"".join(value.to_bytes(2, "little", signed=True) for value in (9000, -9000) * 4000), 16_000)
ENGINE = {"name": "e", "model": "m", "version": "1"}
LETTER = DeadLetter("1700000000000-0", "llm", "j9", "llm.generate", "is not JSON", "{broken")


@dataclass
class ScriptedProducer:
    """Answers with events that were written before."""

    script: list[dict[str, Any]] = field(default_factory=list)
    submitted: list[tuple[str, dict[str, Any], dict[str, Any]]] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    purged: list[str | None] = field(default_factory=list)
    roles: Sequence[str] = ("conductor", "llm", "stt", "tts", "rag")
    interrupt: bool = False
    view: JobView | None = None

    def submit(self, task: str, request: Request | dict[str, Any], **options: Any) -> Submitted:
        spec = CATALOG[task].request
        valid = request if isinstance(request, spec) else spec.model_validate(request)
        self.submitted.append((task, valid.model_dump(mode="json", exclude_none=True), options))
        return Submitted("j1", True)

    def follow(self, job_id: str, *, after: int = 0, timeout_s: float | None = None) -> Iterator[Event]:
        for seq, event in enumerate(self.script, 1):
            if seq > after:
                yield EVENT.validate_python({"seq": seq, "job_id": job_id, "at": 1_700_000_000_000 + seq, **event})
        if self.interrupt:
            raise KeyboardInterrupt
        if timeout_s is not None:
            raise TimeoutError

    def cancel(self, job_id: str) -> bool:
        self.cancelled.append(job_id)
        return True

    def keep_alive(self, job_id: str) -> None:
        """Nobody listens."""

    def job(self, job_id: str) -> JobView | None:
        return self.view

    def queues(self) -> Mapping[str, QueueDepth]:
        return {"llm": QueueDepth(waiting=3, parked=1, oldest_wait_s=2.5)}

    def workers(self) -> list[WorkerStatus]:
        return [
            WorkerStatus(name=f"{role}-0@far", role=role, host="far", pid=1, state="ready", started_ms=1)
            for role in self.roles
        ]

    def dead(self, limit: int = 100) -> list[DeadLetter]:
        return [LETTER][:limit]

    def dead_letter(self, entry: str) -> DeadLetter:
        if entry != LETTER.entry:
            raise JobNotFound(f"No dead letter {entry}.")
        return LETTER

    def replay(self, entry: str) -> str:
        return self.dead_letter(entry).job_id

    def purge(self, entry: str | None = None) -> int:
        self.purged.append(entry)
        return 1 if entry in (None, LETTER.entry) else 0


class Command:
    """The command with a scripted producer."""

    def __init__(self, folder: Path) -> None:
        self.producer = ScriptedProducer()
        self.store: Blobs = open_store((folder / "blobs").as_uri())
        self.folder = folder

    def run(self, *arguments: str, ok: bool = True) -> Result:
        """Run it and check its exit status."""
        tools = Tools(
            producer=self._producer, store=lambda: self.store, out=Console(width=100, highlight=False, file=None)
        )
        result = CliRunner().invoke(app, list(arguments), obj=tools)
        assert (result.exit_code == 0) == ok, (result.exit_code, result.output, result.exception)
        return result

    def _producer(self) -> Client:
        return self.producer

    def json(self, *arguments: str, ok: bool = True) -> Any:
        """What it prints for programs."""
        return json.loads(self.run(*arguments, "--json", ok=ok).stdout)

    def audio(self, name: str) -> dict[str, Any]:
        """A blob with sound in it."""
        return self.store.put("default", "reply", name, wav.encode(TONE), "audio/wav").model_dump()


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


SOURCE = {"id": "a#0", "collection": "pack.artist", "document": "albums", "text": "첫 앨범은 물결이다.", "score": 0.8}


def turn_result(command: Command, **changes: Any) -> dict[str, Any]:
    """A turn of two sentences."""
    spoken = [
        {"seq": seq, "text": text, "audio": command.audio(f"{seq}.wav"), "duration_s": 0.5}
        for seq, text in enumerate(("안녕!", "반가워."))
    ]
    stages = (
        ("stt.transcribe", 0, 5, 100, None),
        ("rag.retrieve", 100, 102, 120, None),
        ("llm.generate", 120, 121, 400, None),
    )
    sentences = ("tts.synthesize", 200, 201, 260, 0), ("tts.synthesize", 400, 401, 480, 1)
    names = ("stage", "queued_at", "started_at", "finished_at", "seq")
    return {
        "job_id": "j1",
        "pack": "artist",
        "session": "s",
        "transcript": "앨범 제목이 뭐야?",
        "context": [SOURCE],
        "reply": "안녕! 반가워.",
        "sentences": spoken,
        "audio": command.audio("all.wav"),
        "audio_duration_s": 1.1,
        "adapter": "artist",
        "voice": "artist",
        "finish_reason": "stop",
        "usage": {"prompt_tokens": 40, "completion_tokens": 9},
        "ttft_ms": 130.0,
        "ttfa_ms": 260.0,
        "total_ms": 500.0,
        "overhead_ms": 21.0,
        "timings": [dict(zip(names, row, strict=True)) for row in (*stages, *sentences)],
    } | changes


def turn_script(command: Command) -> list[dict[str, Any]]:
    """The events of that turn."""
    result = turn_result(command)
    first, second = (
        {"sentence": s["seq"], **{k: s[k] for k in ("text", "audio", "duration_s")}} for s in result["sentences"]
    )
    return [
        {"type": "accepted", "task": "turns.start"},
        {"type": "transcript", "text": result["transcript"], "language": "ko"},
        {"type": "context", "sources": result["context"]},
        {"type": "text.delta", "offset": 0, "text": "안녕! 뭐"},
        {"type": "audio", **first},
        {"type": "text.delta", "offset": 4, "text": "반가워."},
        {"type": "audio", **second},
        {"type": "done", "result": result},
    ]


FAULT = {
    "code": "unknown_voice",
    "message": "There is no such voice. nobody",
    "stage": "tts.synthesize",
    "field": "voice",
}


# --- ask ---


def test_ask_gives_programs_one_object_with_everything(command: Command, tmp_path: Path) -> None:
    command.producer.script = turn_script(command)
    question = tmp_path / "q.wav"
    question.write_bytes(wav.encode(TONE))
    out = tmp_path / "out"
    answer = command.json("ask", "--pack", "artist", "--audio", str(question), "--out", str(out))
    assert answer["job_id"] == "j1"
    assert answer["transcript"] == "앨범 제목이 뭐야?"
    assert [source["document"] for source in answer["context"]] == ["albums"]
    assert answer["reply"] == "안녕! 반가워."
    assert answer["audio_files"] == [str(out / "sentence-00.wav"), str(out / "sentence-01.wav")]
    assert answer["audio"] == str(out / "reply.wav")
    assert all(demo.loudness(Path(path))[1] == 9000 for path in (*answer["audio_files"], answer["audio"]))
    assert answer["adapter"] == "artist"
    assert answer["stage_ms"]["tts.synthesize"] == 279.0
    assert [timing["stage"] for timing in answer["timings"]][:3] == ["stt.transcribe", "rag.retrieve", "llm.generate"]
    assert (answer["ttft_ms"], answer["ttfa_ms"], answer["total_ms"]) == (130.0, 260.0, 500.0)
    task, request, options = command.producer.submitted[0]
    assert task == "turns.start"
    assert command.store.get(BlobRef.model_validate(request["audio"]), tenant="default") == question.read_bytes()
    assert options["presence"] is True


def test_ask_shows_people_the_turn_and_where_its_time_went(command: Command, tmp_path: Path) -> None:
    command.producer.script = turn_script(command)
    shown = command.run("ask", "-p", "artist", "-t", "앨범 제목이 뭐야?", "-s", "s", "-o", str(tmp_path / "o")).stdout
    for expected in ("앨범 제목이 뭐야?", "albums", "안녕! 반가워.", "llm.generate", "279 ms", "first sound 260 ms"):
        assert expected in shown
    assert shown.count("█") > 20
    assert str(tmp_path / "o" / "reply.wav") in shown
    assert "--session s" in shown


def test_a_rerun_takes_back_what_it_said(command: Command, tmp_path: Path) -> None:
    command.producer.script = turn_script(command)[:6]
    turn = Turn(tmp_path, lambda ref: command.store.get(ref, tenant="default"))
    replies = []
    for event in command.producer.follow("j1"):
        turn.take(event)
        replies.append(turn.reply)
    assert replies[-3:] == ["안녕! 뭐", "안녕! 뭐", "안녕! 반가워."]


def test_a_failed_turn_names_code_stage_and_field(command: Command) -> None:
    command.producer.script = [{"type": "failed", "fault": FAULT}]
    result = command.run("ask", "-p", "artist", "-t", "안녕", "--voice", "nobody", ok=False)
    assert result.exit_code == 1
    for expected in ("unknown_voice", "There is no such voice. nobody", "stage: tts.synthesize", "field: voice", "j1"):
        assert expected in result.stderr
    answer = command.json("ask", "-p", "artist", "-t", "안녕", ok=False)
    assert answer == {"error": FAULT | {"retryable": False}, "job_id": "j1"}


def test_a_request_that_is_refused_at_the_door_names_stage_and_field(command: Command) -> None:
    def refuse(task: str, request: Any, **options: Any) -> Submitted:
        return Producer("redis://127.0.0.1:1/0").submit(task, request, **options)

    command.producer.submit = refuse  # type: ignore[method-assign]
    error = command.json("say", "안녕", "-v", "artist", "-o", str(command.folder / "x.wav"), "--speed", "9", ok=False)[
        "error"
    ]
    assert (error["code"], error["stage"], error["field"]) == ("invalid_request", "tts.synthesize", "speed")


def test_ctrl_c_cancels_the_job(command: Command) -> None:
    command.producer.script = turn_script(command)[:3]
    command.producer.interrupt = True
    result = command.run("ask", "-p", "artist", "-t", "안녕", ok=False)
    assert result.exit_code == 130
    assert command.producer.cancelled == ["j1"]


@pytest.mark.parametrize("given", [[], ["--text", "a", "--audio", "b.wav"]])
def test_a_question_is_either_text_or_audio(command: Command, given: list[str]) -> None:
    assert command.json("ask", "-p", "artist", *given, ok=False)["error"]["code"] == "invalid_request"
    assert command.producer.submitted == []


def test_a_recording_that_is_not_there_is_named(command: Command, tmp_path: Path) -> None:
    result = command.run("transcribe", str(tmp_path / "none.wav"), ok=False)
    assert "none.wav cannot be read" in result.stderr


def test_missing_workers_are_named_before_the_wait(command: Command) -> None:
    command.producer.roles = ("conductor", "llm")
    command.producer.script = turn_script(command)
    shown = command.run("ask", "-p", "artist", "-t", "안녕", "-o", str(command.folder), "--no-speak").stderr
    assert "rag (not there)" in shown
    assert "llm" not in shown
    assert "tts" not in shown


@pytest.mark.parametrize(
    ("task", "request_", "roles"),
    [
        ("turns.start", {"audio": {}}, ["conductor", "stt", "rag", "llm", "tts"]),
        ("turns.start", {"text": "a", "speech": False}, ["conductor", "rag", "llm"]),
        ("knowledge.add", {}, ["rag"]),
        ("tts.enrol", {}, ["tts"]),
    ],
)
def test_each_job_needs_its_roles(task: str, request_: dict[str, Any], roles: list[str]) -> None:
    assert roles_for(task, request_) == roles


def test_the_live_view_holds_the_reply_as_it_grows(command: Command, tmp_path: Path) -> None:
    screen = io.StringIO()
    tools = Tools(out=Console(file=screen, force_terminal=True, width=80, highlight=False))
    command.producer.script = turn_script(command)
    turn = Turn(tmp_path, lambda ref: command.store.get(ref, tenant="default"))
    seen = []
    with show.show_for(tools, turn) as live:
        for event in command.producer.follow("j1"):
            turn.take(event)
            live.update(event)
            seen.append("안녕! 뭐" in screen.getvalue())
    assert seen.index(True) == 3, "the text appears with its own event, not later"
    assert "안녕! 반가워." in screen.getvalue()


@pytest.mark.parametrize("width", range(60, 72))
def test_no_word_of_a_reply_is_cut_off(tmp_path: Path, width: int) -> None:
    turn = Turn(tmp_path, lambda _: b"", reply="가나 다라 마 바사아 자차카 타파하. " * 12)
    screen = io.StringIO()
    Console(file=screen, width=width).print(show.reply(turn))
    assert screen.getvalue().split()[1:] == turn.reply.split()


def test_the_chart_draws_each_stage_where_it_happened(command: Command) -> None:
    result = TurnResult.model_validate(turn_result(command))
    screen = io.StringIO()
    Console(file=screen, width=100).print(show.timing_chart(result))
    rows = {row.split()[0] + row.split()[1][:1]: row for row in screen.getvalue().splitlines() if "█" in row}
    bars = {name: (row.index("█"), row.count("█")) for name, row in rows.items()}
    assert len(bars) == 5
    starts = [start for start, _ in bars.values()]
    assert starts == sorted(starts)
    longest = max(bars.values(), key=lambda bar: bar[1])
    assert longest == next(bar for name, bar in bars.items() if name.startswith("llm.generate"))


def test_stage_times_span_all_sentences(command: Command) -> None:
    assert by_stage(TurnResult.model_validate(turn_result(command)).timings)["llm.generate"] == 279.0


# --- single stages ---


def test_transcribe_prints_the_text_alone(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "q.ogg"
    file.write_bytes(b"OggS")
    word = {"text": " 안녕", "start": 0.1, "end": 0.4, "probability": 0.9}
    result = {
        "text": "안녕", "language": "ko", "language_probability": 1.0, "duration_s": 0.5, "engine_ms": 9.0, "engine": ENGINE,
        "segments": [{"text": "안녕", "start": 0.1, "end": 0.4, "words": [word]}],
    }  # fmt: skip
    command.producer.script = [{"type": "done", "result": result}]
    assert command.run("transcribe", str(file)).stdout == "안녕\n"
    assert "0.10    0.40  안녕" in command.run("transcribe", str(file), "--words").stdout
    assert command.json("transcribe", str(file))["segments"][0]["words"] == [word]
    sent = [request for _, request, _ in command.producer.submitted]
    assert [request["word_timestamps"] for request in sent] == [False, True, False]
    assert sent[0]["audio"]["key"].endswith(".ogg")


def test_say_writes_the_file(command: Command, tmp_path: Path) -> None:
    speech = {"audio": command.audio("say.wav"), "duration_s": 0.5, "sample_rate": 16_000, "sentences": [], "voice": "artist",
              "engine_ms": 5.0, "engine": ENGINE}  # fmt: skip
    command.producer.script = [{"type": "done", "result": speech}]
    out = tmp_path / "deep" / "hello.wav"
    assert command.json("say", "안녕", "--voice", "artist", "--out", str(out))["file"] == str(out)
    assert wav.decode(out.read_bytes()) == TONE


def test_enrol_sends_every_recording(command: Command, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a.wav", "b.wav")]
    for file in files:
        file.write_bytes(wav.encode(TONE))
    profile = {"voice": "mom", "digest": "d", "duration_s": 7.0, "cached": False, "engine_ms": 5.0, "engine": ENGINE}
    command.producer.script = [{"type": "done", "result": profile}]
    assert "mom is enrolled from 7.0 s" in command.run("voice", "enrol", "mom", *map(str, files)).stdout
    _, request, _ = command.producer.submitted[0]
    assert (request["voice"], len(request["audio"])) == ("mom", 2)


def test_voices_of_packs_and_of_the_tenant_are_listed(command: Command) -> None:
    record = {"voice": "mom", "digest": "d", "language": "ko", "duration_s": 7.25, "formant": {}}
    command.store.put("acme", "voices", "mom.json", json.dumps(record).encode(), "application/json")
    command.store.put("acme", "voices", "d.wav", wav.encode(TONE), "audio/wav")
    listed = command.json("voice", "list", "--tenant", "acme")
    assert {voice["voice"] for voice in listed} == {"artist", "parent", "mom"}
    assert listed[-1] == {"voice": "mom", "from": "enrolled", "language": "ko", "duration_s": 7.25}
    assert "mom" not in command.run("voice", "list").stdout


# --- knowledge ---


def test_knowledge_add_sends_short_texts_inline_and_long_ones_by_reference(command: Command, tmp_path: Path) -> None:
    short, long = tmp_path / "일정표 2024.md", tmp_path / "long.txt"
    short.write_text("# 일정", encoding="utf-8")
    long.write_text("가" * 40_000, encoding="utf-8")
    command.producer.script = [{"type": "done", "result": {"collection": "c", "chunks": 3}}]
    command.run(
        "knowledge", "add", "c", str(short), str(long), "-m", "year=2024", "-m", "kind=plan", "--tenant", "acme"
    )
    _, request, _ = command.producer.submitted[0]
    first, second = request["documents"]
    assert (first["id"], first["text"], first["media_type"]) == ("2024", "# 일정", "text/markdown")
    assert first["metadata"] == {"source": "일정표 2024.md", "year": 2024, "kind": "plan"}
    assert "text" not in second
    stored = command.store.get(BlobRef.model_validate(second["blob"]), tenant="acme")
    assert stored.decode() == "가" * 40_000


@pytest.mark.parametrize(("name", "expected"), [("a b.md", "a-b"), ("노트 1.txt", "1"), ("__x.md", "x")])
def test_a_document_is_named_after_its_file(name: str, expected: str) -> None:
    assert document_id(Path(name)) == expected


def test_a_file_with_no_latin_name_gets_a_stable_one() -> None:
    composed, decomposed = document_id(Path("\uac00.md")), document_id(Path("\u1100\u1161.md"))
    assert composed == decomposed
    assert composed.startswith("document-")


def test_knowledge_rm_wants_documents_or_all(command: Command) -> None:
    assert command.json("knowledge", "rm", "c", ok=False)["error"]["field"] == "documents"
    command.producer.script = [{"type": "done", "result": {"collection": "c", "chunks": 3}}]
    command.run("knowledge", "rm", "c", "--all")
    command.run("knowledge", "rm", "c", "d1", "d2")
    assert [request["documents"] for _, request, _ in command.producer.submitted] == [[], ["d1", "d2"]]


def test_knowledge_list_and_search_show_what_there_is(command: Command) -> None:
    found = {"name": "c", "chunks": 3, "profile": "tokens-512-64", "embedding": "m@1 (128)"}
    command.producer.script = [{"type": "done", "result": {"collections": [found]}}]
    assert "m@1 (128)" in command.run("knowledge", "list").stdout
    assert command.json("knowledge", "list")["collections"] == [found]
    command.producer.script = [{"type": "done", "result": {"sources": [SOURCE], "engine_ms": 1.0, "engine": ENGINE}}]
    assert "0.80  pack.artist/albums" in command.run("knowledge", "search", "앨범", "-p", "artist").stdout


# --- jobs and dead letters ---


def test_events_end_where_they_end_and_can_be_resumed(command: Command) -> None:
    command.producer.script = turn_script(command)[:4]
    lines = command.run("job", "events", "j1", "--json").stdout.splitlines()
    assert [json.loads(line)["seq"] for line in lines] == [1, 2, 3, 4]
    later = command.run("job", "events", "j1", "--after", "3").stdout
    assert "text.delta" in later
    assert "transcript" not in later


def test_job_show_tells_of_the_stages(command: Command) -> None:
    times = {"created_ms": 1_000, "started_ms": 1_250, "finished_ms": 2_250}
    stage = {"id": "j1/stt", "task": "stt.transcribe", "queue": "stt", "state": "done", "attempts": 2, **times}
    raw = {"job_id": "j1", "task": "turns.start", "queue": "turns", "tenant": "acme", "priority": "interactive",
           "state": "failed", "attempts": 1, "deadline_ms": 9, "created_ms": 1_000, "fault": FAULT, "stages": [stage]}  # fmt: skip
    command.producer.view = JobView.model_validate(raw)
    shown = command.run("job", "show", "j1").stdout
    for expected in ("failed", "acme", "unknown_voice", "stt.transcribe", "250 ms", "1,000 ms"):
        assert expected in shown
    assert command.json("job", "show", "j1")["stages"][0]["attempts"] == 2


def test_an_unknown_job_is_an_error(command: Command) -> None:
    assert command.json("job", "show", "nope", ok=False)["error"]["code"] == "job_not_found"


def test_cancel(command: Command) -> None:
    assert command.json("job", "cancel", "j7") == {"job_id": "j7", "cancelled": True}
    assert command.producer.cancelled == ["j7"]


def test_dead_letters_are_listed_without_their_content(command: Command) -> None:
    assert "broken" not in command.run("dead", "list", "--json").stdout
    assert command.json("dead", "show", LETTER.entry)["raw"] == "{broken"
    assert command.json("dead", "replay", LETTER.entry)["job_id"] == "j9"
    assert command.json("dead", "replay", "0-1", ok=False)["error"]["code"] == "job_not_found"


def test_dead_letters_are_purged_by_name_or_all(command: Command) -> None:
    assert command.json("dead", "purge", ok=False)["error"]["field"] == "entry"
    assert command.json("dead", "purge", "--all") == {"purged": 1}
    assert command.json("dead", "purge", "9-9", ok=False)["error"]["code"] == "job_not_found"
    assert command.producer.purged == [None, "9-9"]


# --- demo ---


def test_the_demo_hears_whether_there_is_sound(tmp_path: Path, command: Command) -> None:
    turn = Turn(tmp_path, lambda ref: command.store.get(ref, tenant="default"))
    result = TurnResult.model_validate(turn_result(command))
    merged = turn.finish(result)
    demo.check_sound(turn, result, merged)
    silence = Waveform(bytes(2 * 16_000), 16_000)
    turn.sentences[1][1].write_bytes(wav.encode(silence))
    with pytest.raises(EngineFailed, match="no sound"):
        demo.check_sound(turn, result, merged)
    with pytest.raises(EngineFailed, match="not spoken"):
        demo.check_sound(turn, result, None)


def test_the_demo_speaks_its_questions(tmp_path: Path) -> None:
    seconds, peak = demo.loudness(demo.speak("새 앨범 제목이 뭐야?", tmp_path / "q.wav"))
    assert seconds > 0.8
    assert peak > 3000


# --- the command itself ---


def test_a_silent_redis_is_one_sentence_with_a_remedy(command: Command) -> None:
    def silent() -> Client:
        raise BrokerUnavailable("Nothing answers. Start it: maeari up")

    result = CliRunner().invoke(app, ["job", "show", "j1"], obj=Tools(producer=silent))
    assert result.exit_code == 1
    assert "maeari up" in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    "arguments",
    [
        (), ("up",), ("down",), ("status",), ("logs",), ("doctor",), ("demo",), ("ask",), ("transcribe",), ("say",),
        ("voice", "enrol"), ("voice", "list"), ("knowledge", "add"), ("knowledge", "search"), ("knowledge", "list"),
        ("knowledge", "rm"), ("job", "show"), ("job", "events"), ("job", "cancel"), ("dead", "list"), ("dead", "show"),
        ("dead", "replay"), ("dead", "purge"),
    ],
)  # fmt: skip
def test_every_command_explains_itself(arguments: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, [*arguments, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.output


def test_help_comes_at_once_and_without_heavy_imports() -> None:
    heavy = ["torch", "vllm", "TTS", "chromadb", "celery", "redis", "pydantic_settings", "numpy", "shared.producer"]
    code = f"""
import sys, time
from shared.cli.root import app
try:
    app(["--help"], prog_name="maeari")
except SystemExit:
    pass
loaded = [name for name in {heavy} if name in sys.modules]
assert not loaded, loaded
print(time.process_time())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.splitlines()[-1]) < 0.5, "seconds of processor time"


def test_python_m_runs_the_same_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "shared.cli", "job", "--help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "maeari job" in done.stdout
