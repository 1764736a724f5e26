"""A turn on the `maeari` command: what people and programs get to see."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from shared import wav
from shared.cli import demo, show
from shared.cli.tools import Tools, roles_for
from shared.cli.turn import Turn, by_stage
from shared.contracts.base import BlobRef
from shared.contracts.turn import TurnResult
from shared.producer import Producer, Submitted
from tests.support.command import (
    FAULT,
    TONE,
    Command,
    turn_result,
    turn_script,
)


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
