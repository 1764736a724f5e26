"""The command against a running cluster of real workers with scripted engines: real queues, streams, blobs, files."""

from __future__ import annotations

import signal
import subprocess
import sys
import wave
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from shared.cli.demo import speak
from shared.producer import Producer
from tests.support.home import ROOT, Home, make_home
from tests.support.waiting import until

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """All five roles with scripted engines."""
    home = make_home(tmp_path_factory.mktemp("command") / "home")
    home.environment["MAEARI_ENGINES"] = "scripted"
    try:
        home.run("up")
        yield home
    finally:
        home.run("down")


@pytest.fixture
def question(tmp_path: Path) -> str:
    """A spoken question."""
    return str(speak("새 앨범 제목이 뭐야?", tmp_path / "question.wav"))


def _seconds(path: str) -> float:
    with wave.open(path, "rb") as file:
        return file.getnframes() / file.getframerate()


def test_status_shows_every_role_ready_with_its_engine(home: Home) -> None:
    status = home.json("status")
    assert {row["role"]: row["state"] for row in status["workers"]} == dict.fromkeys(
        ("conductor", "llm", "stt", "tts", "rag"), "ready"
    )
    assert all(row["engines"] for row in status["workers"] if row["role"] != "conductor")
    assert status["ready"]


def test_two_spoken_questions_at_once_give_one_object_each(home: Home, question: str, tmp_path: Path) -> None:
    def ask(pack: str) -> Any:
        return home.json("ask", "--pack", pack, "--audio", question, "--out", str(tmp_path / pack))

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(ask, ("artist", "parent")))
    assert [answer["pack"] for answer in answers] == ["artist", "parent"]
    assert answers[0]["job_id"] != answers[1]["job_id"]
    for answer in answers:
        assert answer["transcript"]
        assert answer["reply"]
        assert answer["context"]
        assert len(answer["audio_files"]) > 1
        assert sum(map(_seconds, answer["audio_files"])) <= _seconds(answer["audio"]) + 0.01
        assert set(answer["stage_ms"]) >= {"stt.transcribe", "rag.retrieve", "llm.generate", "tts.synthesize"}
        assert 0 < answer["ttft_ms"] <= answer["ttfa_ms"] <= answer["total_ms"]


def test_people_see_the_turn_as_it_comes(home: Home, question: str) -> None:
    shown = home.run("ask", "-p", "artist", "-a", question).stdout
    for expected in (
        "you",
        "context",
        "audio 1",
        "reply",
        "llm.generate",
        "first sound",
        "reply.wav",
        "--session cli-",
    ):
        assert expected in shown


def test_a_job_can_be_looked_at_afterwards(home: Home) -> None:
    job_id = home.json("ask", "-p", "parent", "-t", "안녕", "--no-speak")["job_id"]
    view = home.json("job", "show", job_id)
    assert (view["state"], view["task"]) == ("done", "turns.start")
    lines = home.run("job", "events", job_id).stdout.splitlines()
    assert "accepted" in lines[0]
    assert "done" in lines[-1]
    assert home.json("job", "cancel", job_id)["cancelled"] is False


def test_bad_input_is_one_clear_failure(home: Home, tmp_path: Path) -> None:
    error = home.json("ask", "-p", "nobody", "-t", "안녕", ok=False)["error"]
    assert (error["code"], error["stage"], error["field"]) == ("unknown_pack", "turns.start", "pack")
    error = home.json("ask", "-p", "artist", "-t", " ", ok=False)["error"]
    assert (error["code"], error["stage"], error["field"]) == ("invalid_request", "turns.start", "text")
    assert "cannot be read" in home.json("transcribe", str(tmp_path), ok=False)["error"]["message"]


def test_single_stages(home: Home, question: str, tmp_path: Path) -> None:
    assert home.json("transcribe", question)["text"] == home.run("transcribe", question).stdout.strip()
    out = tmp_path / "hello.wav"
    assert home.json("say", "안녕하세요.", "--voice", "artist", "--out", str(out))["file"] == str(out)
    assert _seconds(str(out)) > 0.1


def test_the_demo_asks_both_personas_and_leaves_the_cluster_up(home: Home) -> None:
    result = home.run("demo")
    assert "artist, asked" in result.stdout
    assert "parent, asked" in result.stdout
    assert "Stop it: maeari down" in result.stdout


def test_ctrl_c_cancels_what_waits(home: Home, question: str) -> None:
    home.run("up", "--replicas", "stt=0")
    producer = Producer(home.environment["MAEARI_REDIS_URL"])
    known = set(_jobs(producer))
    command = [sys.executable, "-m", "shared.cli", "ask", "-p", "artist", "-a", question]
    with subprocess.Popen(
        command, cwd=ROOT, env=home.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as asking:
        until(lambda: producer.queues()["stt"].waiting, "the question waits for an stt worker")
        (job_id,) = set(_jobs(producer)) - known
        asking.send_signal(signal.SIGINT)
        _, told = asking.communicate(timeout=120)
    assert asking.returncode == 130
    assert "stt (not there)" in told
    view = producer.job(job_id)
    assert view is not None
    assert view.state == "cancelled"
    home.run("up", "--replicas", "stt=1")


def _jobs(producer: Producer) -> list[str]:
    """Ids of all turns."""
    prefix = producer.jobs.keys.job("")
    keys = [key.removeprefix(prefix) for key in producer.jobs.client.scan_iter(f"{prefix}*")]
    return [key for key in keys if "/" not in key]
