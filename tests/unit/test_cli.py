"""The `maeari` command over a scripted producer and a folder of blobs: what people and programs get to see."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from shared import wav
from shared.cli import demo
from shared.cli.knowledge import document_id
from shared.cli.root import app
from shared.cli.tools import Client, Tools
from shared.cli.turn import Turn
from shared.contracts.base import BlobRef
from shared.contracts.status import JobView
from shared.contracts.turn import TurnResult
from shared.errors import BrokerUnavailable, EngineFailed
from shared.protocols import Waveform
from tests.support.command import (
    ENGINE,
    FAULT,
    LETTER,
    SOURCE,
    TONE,
    Command,
    turn_result,
    turn_script,
)

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
