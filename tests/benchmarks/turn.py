"""A spoken turn: first audio, end, overhead; with and without sentence pipelining; against the engines called in a row."""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shared.blobs import open_store
from shared.contracts.base import BlobRef
from shared.contracts.events import AudioReady, Done, Event
from shared.producer import Producer
from shared.settings import settings
from shared.text import SentenceSplitter
from tests.support.chroma import ChromaServer

from .child import Child, base_environment
from .measures import Section, Table, median, number, ratios, spread
from .stage import spoken_question, stage

ROUNDS, SINGLES, SCRIPTED = (
    int(os.environ.get(f"BENCH_TURN_{name}", default))
    for name, default in {"ROUNDS": 3, "SINGLES": 5, "SCRIPTED": 3}.items()
)
LEVELS = (1, 4, 16)
TOKEN_MS, SENTENCE_MS = 15, 400
REPLY = (
    "안녕하세요 오늘도 와 줘서 고마워요. 아침에는 바닷가를 천천히 걸었어요. "
    "점심에는 친구들과 국수를 먹었고요. 저녁에는 새 노래를 연습할 거예요. 내일도 우리 꼭 만나요!"
)
GREEDY = {"temperature": 0.0, "max_tokens": 96}


class Caller:
    """Hands turns in and follows them."""

    def __init__(self, producer: Producer, audio: BlobRef) -> None:
        """`audio`: the question."""
        self.producer = producer
        self._turn = {"pack": "artist", "audio": audio.model_dump(exclude_none=True), "sampling": GREEDY}
        self._number = 0

    def submit(self, **changes: Any) -> str:
        """A turn in a session of its own."""
        self._number += 1
        request = self._turn | {"session": f"bench-{self._number}"} | changes
        return self.producer.submit("turns.start", request).job_id

    def together(self, count: int) -> list[dict[str, Any]]:
        """The results of turns that are handed in at once."""
        jobs = [self.submit() for _ in range(count)]
        return [self.producer.result(job_id, timeout_s=300) for job_id in jobs]

    def whole(self) -> tuple[dict[str, Any], float, float, list[Any]]:
        """The same reply spoken in one piece once its text is complete: its turn, first audio, end, as ms; its stages."""
        began = time.perf_counter()
        turn = self.producer.result(self.submit(speech=False), timeout_s=300)
        handed_in = (time.perf_counter() - began) * 1000
        request = {"text": turn["reply"], "voice": "artist", "seq": 0}
        events: list[Event] = []
        arrived: list[float] = []
        for event in self.producer.follow(self.producer.submit("tts.synthesize", request).job_id, timeout_s=300):
            events.append(event)
            arrived.append((time.perf_counter() - began) * 1000)
        first = next(at for at, event in zip(arrived, events, strict=True) if isinstance(event, AudioReady))
        done = next(event for event in events if isinstance(event, Done))
        stages = [*turn["timings"], _spoken(done.result, handed_in, arrived[-1])]
        return turn, first, arrived[-1], stages


def _spoken(result: dict[str, Any], queued: float, end: float) -> dict[str, Any]:
    engine_ms = result["engine_ms"]
    times = {"queued_at": queued, "started_at": end - engine_ms, "finished_at": end, "engine_ms": engine_ms}
    return {"stage": "tts.synthesize", "seq": 0} | times


def measure(folder: Path) -> Section:
    """Real engines, then engines timed like a GPU's."""
    section = Section()
    (folder / "real").mkdir()
    (folder / "scripted").mkdir()
    _real(folder / "real", section)
    _scripted(folder / "scripted", section)
    return section


def _question(folder: Path) -> tuple[Path, BlobRef]:
    path = spoken_question(folder)
    store = open_store((folder / "blobs").as_uri())
    return path, store.put("default", "audio", "question.wav", path.read_bytes(), "audio/wav")


# --- this machine's engines ---


def _real(folder: Path, section: Section) -> None:
    path, audio = _question(folder)
    chroma = ChromaServer(folder / "chroma")
    environment = {"MAEARI_CHROMA_PORT": str(chroma.port), "MAEARI_TASK_EVENTS": "false", "MAEARI_TENANT_SHARE": "16"}
    mine = base_environment(MAEARI_HOME=str(folder), MAEARI_CHROMA_PORT=str(chroma.port))
    command = [sys.executable, "-m", "tests.benchmarks.direct", "stt", "rag", "llm", "tts"]
    direct = Child(command, folder / "direct.log", mine)
    try:
        with stage(folder, ["conductor", "llm", "stt", "tts", "rag"], **environment) as on:
            caller = Caller(on.producer, audio)
            _warm_up(caller, direct, path)
            found = _rounds(caller, direct, path)
    finally:
        direct.close()
        chroma.close()
    _report_real(section, *found)


def _warm_up(caller: Caller, direct: Child, path: Path) -> None:
    caller.together(2)
    caller.whole()
    direct.ask("turn", str(path))
    direct.freeze()


Rounds = tuple[dict[int, list[dict[str, float]]], list[dict[str, float]], list[dict[str, float]]]


def _rounds(caller: Caller, direct: Child, path: Path) -> Rounds:
    """Per level and round the medians of cluster turns; per round those of the whole text, and of the row of calls."""
    levels: dict[int, list[dict[str, float]]] = {level: [] for level in LEVELS}
    wholes, rows = [], []
    for _ in range(ROUNDS):
        for level in LEVELS:
            results = [turn for _ in range(SINGLES if level == 1 else 1) for turn in caller.together(level)]
            levels[level].append({name: median([turn[name] for turn in results]) for name in _MEASURED})
        whole = [caller.whole() for _ in range(2)]
        wholes.append({"ttfa_ms": median([one[1] for one in whole]), "total_ms": median([one[2] for one in whole])})
        direct.thaw()
        parts = [direct.ask("turn", str(path)) for _ in range(SINGLES)]
        direct.freeze()
        rows.append({name: median([one[name] for one in parts]) for name in parts[0]})
    return levels, wholes, rows


_MEASURED = ("ttft_ms", "ttfa_ms", "total_ms", "overhead_ms")


def _critical(parts: dict[str, float]) -> float:
    """Milliseconds to first audio if nothing but the engines took time."""
    return parts["transcribe"] + parts["retrieve"] + parts["first_sentence"] + parts["speak_first"]


def _in_a_row(parts: dict[str, float], callers: int) -> tuple[float, float]:
    """Median first audio and end of `callers` that come at once to one process that serves them in turn."""
    first = parts["transcribe"] + parts["retrieve"] + parts["generate"] + parts["speak_first"]
    waits = [parts["total"] * place for place in range(callers)]
    return statistics.median(waits) + first, statistics.median(waits) + parts["total"]


def _report_real(
    section: Section,
    levels: dict[int, list[dict[str, float]]],
    wholes: list[dict[str, float]],
    parts: list[dict[str, float]],
) -> None:
    over = [turn["ttfa_ms"] / _critical(part) for turn, part in zip(levels[1], parts, strict=True)]
    rows = []
    for level, rounds in levels.items():
        cells = [number(median([one[name] for one in rounds])) for name in _MEASURED]
        rows.append([f"cluster, {level} at once", *cells])
    whole = [number(median([one[name] for one in wholes])) for name in ("ttfa_ms", "total_ms")]
    rows.append(["cluster, 1, synthesis after the whole text", "", *whole, ""])
    for level in LEVELS:
        in_a_row = [_in_a_row(part, level) for part in parts]
        cells = [number(median([one[at] for one in in_a_row])) for at in (0, 1)]
        rows.append([f"one process, engines in a row, {level} at once", "", *cells, ""])
        section.figures[f"first_audio_over_row_at_{level}"] = median(
            [turn["ttfa_ms"] / row[0] for turn, row in zip(levels[level], in_a_row, strict=True)]
        )
    rows.append(["engines' own critical path", "", number(median([_critical(part) for part in parts])), "", ""])
    columns = ["this machine's engines, ms p50", "first token", "first audio", "end", "overhead"]
    section.tables.append(Table("A spoken turn", columns, rows))
    section.figures |= {
        "first_audio_over_critical_path": median(over),
        "first_audio_over_whole_text": median(
            ratios([one["ttfa_ms"] for one in levels[1]], [one["ttfa_ms"] for one in wholes])
        ),
        "overhead_ms": median([one["overhead_ms"] for one in levels[1]]),
        "ttfa_ms": median([one["ttfa_ms"] for one in levels[1]]),
    }
    shown = f"first audio / critical path, this machine's engines (rounds {spread(over)})"
    section.at_most(shown, section.figures["first_audio_over_critical_path"], 1.10)
    section.at_most("a turn's overhead at concurrency 1", section.figures["overhead_ms"], 60, " ms")
    section.notes.append(
        "Several turns at once in one process stand in line: their times are computed from the measured single ones. "
        "The critical path is measured in that process: transcribe, retrieve, generate to the first sentence, speak it."
    )


# --- engines timed like a GPU's ---


def _scripted_path() -> float:
    """Critical path of the script: transcribe, retrieve, first sentence, speak it."""
    splitter = SentenceSplitter(settings().tts_max_chars)
    tokens = [REPLY[at : at + 2] for at in range(0, len(REPLY), 2)]
    for number_, token in enumerate(tokens, start=1):
        if sentences := splitter.feed(token):
            return 5 * TOKEN_MS + number_ * TOKEN_MS + len(sentences[0]) * SENTENCE_MS / 20
    raise AssertionError("the script has no sentence")


def _scripted(folder: Path, section: Section) -> None:
    _, audio = _question(folder)
    timing = {
        "MAEARI_SCRIPTED_TOKEN_MS": str(TOKEN_MS),
        "MAEARI_SCRIPTED_SENTENCE_MS": str(SENTENCE_MS),
        "MAEARI_SCRIPTED_REPLY": REPLY,
    }
    early: list[dict[str, Any]] = []
    late = []
    roles = ["conductor", "llm", "stt", "tts", "rag"]
    with stage(folder, roles, MAEARI_ENGINES="scripted", MAEARI_TASK_EVENTS="false", **timing) as on:
        caller = Caller(on.producer, audio)
        caller.together(1)
        for _ in range(SCRIPTED):
            early += caller.together(1)
            late.append(caller.whole())
    first = [turn["ttfa_ms"] for turn in early]
    over = [value / _scripted_path() for value in first]
    shares = ratios(first, [one[1] for one in late])
    ends = ratios([turn["total_ms"] for turn in early], [one[2] for one in late])
    section.figures |= {
        "scripted_first_audio_over_critical_path": median(over),
        "scripted_first_audio_over_whole_text": median(shares),
        "scripted_end_over_whole_text": median(ends),
        "scripted_overhead_ms": median([turn["overhead_ms"] for turn in early]),
    }
    columns = ["engines timed like a GPU's, ms p50", "first audio", "end"]
    pick: Callable[[str], str] = lambda name: number(median([turn[name] for turn in early]))  # noqa: E731
    rows = [
        ["sentence by sentence", pick("ttfa_ms"), pick("total_ms")],
        [
            "synthesis after the whole text",
            number(median([one[1] for one in late])),
            number(median([o[2] for o in late])),
        ],
        ["engines' own critical path", number(_scripted_path()), ""],
    ]
    section.tables.append(Table("Sentence pipelining", columns, rows))
    shown = f"first audio / critical path, engines timed like a GPU's (rounds {spread(over)})"
    section.at_most(shown, median(over), 1.10)
    section.at_most("first audio, sentence by sentence / whole text at once", median(shares), 0.35)
    section.notes.append(
        f"Timed engines: {TOKEN_MS} ms a token, {SENTENCE_MS} ms for a sentence of 20 characters, five sentences; scripted, no model."
    )
    middle = sorted(early, key=lambda turn: turn["ttfa_ms"])[len(early) // 2]
    caption = (
        "One turn, sentence by sentence (above) and spoken after the whole text (below); pale: waiting in a queue."
    )
    section.pictures.append(
        {"kind": "gantt", "file": "bench-turn.svg", "caption": caption, "unit": "ms"}
        | {"series": {"sentence by sentence": middle["timings"], "after the whole text": late[len(late) // 2][3]}}
    )
