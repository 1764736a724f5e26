"""Evaluation without a cluster: cases are read strictly, verdicts become figures, figures become a page."""

from __future__ import annotations

import json
import threading
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from shared.errors import BrokerUnavailable, ConfigurationInvalid, EngineFailed
from shared.packs import load_pack
from workers.evaluation import __main__ as command
from workers.evaluation.cases import Case, InvalidCases, read_cases
from workers.evaluation.conversation import Reply, encoded, spoken, unseen
from workers.evaluation.curves import draw, learning_curves
from workers.evaluation.measures import MEASURES, Verdict, figures, found, heard, spoken_back, stated, styled
from workers.evaluation.report import page, write_page
from workers.evaluation.suites import EARLIER, own_cases
from workers.evaluation.trials import OTHER_CASES, other_adapter, plan, run
from workers.training.corpus import PACKS
from workers.training.corpus.questions import questions
from workers.training.recipe import read_mapping, recipe_path

COLOUR = Case(id="colour", turns=("좋아하는 색이 뭐야?",), expect=("남색",))
NAME = Case(id="name", turns=("내 이름은 하늘이야.", "내 이름 기억해?"), expect=("하늘",), name="하늘")


def _file(folder: Path, *lines: str) -> Path:
    file = folder / "mine.jsonl"
    file.write_text("\n".join(lines), encoding="utf-8")
    return file


def test_a_file_of_cases_is_read_and_unnamed_ones_are_called_by_their_line(tmp_path: Path) -> None:
    file = _file(tmp_path, '{"turns": ["안녕?"]}', "", '{"id": "b", "turns": ["a", "b"], "expect": ["c"], "rules": []}')
    first, second = read_cases(file)
    assert (first.id, second.id) == ("mine.jsonl:1", "b")
    assert set(first.counted) == {"heard_cer", "noisy_cer", "spoken_back_cer", "style_kept", "other_style_kept"}
    assert set(second.counted) == {"heard_cer", "noisy_cer", "spoken_back_cer", "recall_stated"}
    assert set(COLOUR.counted) >= {"fact_stated", "hit_at_3"}


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "mine.jsonl:2: is not JSON"),
        ("[]", "mine.jsonl:2: .*valid dictionary"),
        ("{}", "mine.jsonl:2: turns: Field required"),
        ('{"turns": []}', "mine.jsonl:2: turns"),
        ('{"turns": [" "]}', "mine.jsonl:2: turns.0: is empty"),
        ('{"turns": ["a"], "expected": ["b"]}', "mine.jsonl:2: expected"),
        ('{"turns": ["a"], "rules": ["kind"]}', "mine.jsonl:2: rules.0"),
        ('{"turns": ["a"], "voice": {"speed": 9}}', "mine.jsonl:2: voice.speed"),
        ('{"turns": ["a"], "voice": {"variant": "-w/etc"}}', "mine.jsonl:2: voice.variant"),
        ('{"turns": ["a"], "measures": ["recall_stated"]}', "recall_stated cannot be counted"),
    ],
)
def test_a_bad_case_is_named_by_file_and_line(tmp_path: Path, line: str, problem: str) -> None:
    with pytest.raises(InvalidCases, match=problem):
        read_cases(_file(tmp_path, '{"turns": ["a"]}', line))


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InvalidCases, match="cannot be read: No such file"):
        read_cases(tmp_path / "nowhere.jsonl")
    with pytest.raises(InvalidCases, match="holds no case"):
        read_cases(_file(tmp_path, "", " "))
    (tmp_path / "mine.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidCases, match="not UTF-8"):
        read_cases(tmp_path / "mine.jsonl")


@pytest.mark.parametrize("pack", PACKS)
def test_own_cases_are_held_out_and_enough(pack: str) -> None:
    cases = own_cases(pack)
    assert cases == own_cases(pack)
    count = Counter(name for case in cases for name in case.counted)
    assert set(count) == set(MEASURES)
    assert count["recall_stated"] == 20 and count["heard_cer"] >= 60 and count["fact_stated"] >= 60
    held = {question.text for question in questions(pack) if question.split == "held"}
    assert all(case.last in held for case in cases if {"hit_at_3", "fact_stated"} & set(case.counted))
    earlier = {len(case.turns) - 1 for case in cases if "recall_stated" in case.counted}
    assert earlier == set(EARLIER)


def test_a_pack_without_a_corpus_asks_for_cases() -> None:
    with pytest.raises(ConfigurationInvalid, match="--cases FILE"):
        own_cases("mentor")


def test_questions_are_spoken_as_no_training_speaks_them() -> None:
    trained = read_mapping(recipe_path("speech"))["speaking"]["voices"]
    manners = [unseen(number) for number in range(50)]
    assert not {manner.speed for manner in manners} & set(trained["speeds"])
    assert not {manner.pitch for manner in manners} & set(trained["pitches"])
    assert len({(manner.speed, manner.pitch) for manner in manners}) > 8
    assert len(encoded(spoken(COLOUR, 0))) > 16_000


def test_character_errors_are_summed_over_all_that_was_said() -> None:
    verdicts = [
        heard("heard_cer", COLOUR, "가나다라", "가나다라"),
        heard("heard_cer", NAME, "가나다라마바", "가나마바라다"),
    ]
    figure = figures(verdicts)["heard_cer"]
    assert figure["value"] == pytest.approx(4 / 10)
    assert (figure["met"], figure["cases"], figure["exact"]) == (False, 2, 0.5)
    assert figure["failures"] == [{"case": "name", "shown": "가나다라마바 → 가나마바라다"}]


def test_a_fact_that_was_not_retrieved_is_set_aside() -> None:
    chunks = ("## 좋아하는 것\n\n온결이 가장 좋아하는 색은 남색이다.",)
    assert found(COLOUR, chunks).good
    assert not found(COLOUR, ("## 꽃\n\n해당화다.",)).good
    verdicts = [
        stated("fact_stated", COLOUR, "모래별, 내가 좋아하는 색은 남 색이야!", chunks),
        stated("fact_stated", COLOUR, "모래별, 빨강!", chunks),
        stated("fact_stated", COLOUR, "모래별, 빨강!", ("## 꽃\n\n해당화다.",)),
    ]
    figure = figures(verdicts)["fact_stated"]
    assert (figure["value"], figure["cases"], figure["set_aside"]) == (0.5, 2, 1)


def test_what_was_said_needs_no_chunk() -> None:
    assert figures([stated("recall_stated", NAME, "네 이름은 하늘이지!", ())])["recall_stated"]["value"] == 1.0


def test_style_is_the_pack_s_own_and_only_as_far_as_the_case_asks() -> None:
    pack = load_pack("parent")
    assert styled("style_kept", COLOUR, "우리 딸, 엄마는 수국을 좋아한단다.", pack).good
    polite = "우리 딸, 엄마는 수국을 좋아해요."
    assert "ending" in styled("style_kept", COLOUR, polite, pack).shown
    only_address = COLOUR.model_copy(update={"rules": ("address",)})
    assert styled("style_kept", only_address, polite, pack).good
    assert not styled("style_kept", only_address, " ", pack).good


def test_failed_jobs_count_for_no_figure_and_keep_it_from_being_met() -> None:
    good = Verdict("other_style_kept", COLOUR, good=False)
    assert figures([good])["other_style_kept"]["met"] is True
    figure = figures([good, Verdict("other_style_kept", NAME, error="timeout: late")])["other_style_kept"]
    assert (figure["value"], figure["met"], figure["cases"], figure["failed_jobs"]) == (0.0, False, 1, 1)
    assert figure["errors"] == ["timeout: late"]


def test_a_wrong_adapter_fails_where_it_keeps_the_style() -> None:
    figure = figures([Verdict("other_style_kept", COLOUR, good=True, shown="kept!")])["other_style_kept"]
    assert (figure["value"], figure["met"], figure["failures"]) == (1.0, False, [{"case": "colour", "shown": "kept!"}])


def test_emoji_are_not_spoken() -> None:
    assert spoken_back(COLOUR, "안녕 💜", "안녕").good


def test_a_plan_takes_no_more_cases_than_asked() -> None:
    trials = plan("artist", own_cases("artist"), limit=5)
    assert set(Counter(name for trial in trials for name in trial.measures).values()) == {5}
    whole = Counter(name for trial in plan("artist", own_cases("artist")) for name in trial.measures)
    assert whole["other_style_kept"] == OTHER_CASES
    others = {trial.adapter for trial in trials if "other_style_kept" in trial.measures}
    assert others == {other_adapter("artist")} == {load_pack("parent").adapter}


class ScriptedCluster:
    """Answers in the words of the case itself."""

    def __init__(self, error: Exception | None = None, every: int = 1) -> None:
        self._error, self._every, self._count = error, every, 0
        self._lock = threading.Lock()
        self.cancelled = False

    def _fail(self) -> None:
        with self._lock:
            self._count += 1
            if self._error is not None and self._count % self._every == 0:
                raise self._error

    def hear(self, case: Case, number: int, decibels: float | None = None) -> str:
        self._fail()
        return case.last

    def find(self, pack: str, query: str) -> tuple[str, ...]:
        self._fail()
        return ()

    def converse(self, case: Case, number: int, pack: str, adapter: str | None, *, speech: bool) -> Reply:
        self._fail()
        return Reply(f"모래별, {' '.join(case.expect)}! 💜", case.wanted, None, adapter)

    def cancel(self) -> None:
        self.cancelled = True


def test_trials_run_side_by_side_and_every_one_is_counted() -> None:
    told: list[tuple[int, int]] = []
    trials = plan("artist", own_cases("artist"), limit=6)
    cluster: Any = ScriptedCluster()
    measured = figures(run(cluster, trials, lambda done, total: told.append((done, total))))
    assert told[-1] == (len(trials), len(trials))
    assert measured["heard_cer"]["value"] == 0.0
    assert measured["recall_stated"]["value"] == measured["fact_stated"]["value"] == 1.0
    assert measured["hit_at_3"]["value"] == 0.0
    assert measured["spoken_back_cer"]["failed_jobs"] == 6


def test_some_failing_jobs_are_told_and_all_failing_jobs_end_it() -> None:
    some: Any = ScriptedCluster(EngineFailed("(odd)"), every=3)
    measured = figures(run(some, plan("artist", own_cases("artist"), limit=6)))
    assert sum(figure["failed_jobs"] for figure in measured.values()) > 0
    everything: Any = ScriptedCluster(EngineFailed("(odd)"))
    with pytest.raises(EngineFailed):
        run(everything, plan("artist", own_cases("artist"), limit=2))
    lost: Any = ScriptedCluster(BrokerUnavailable(), every=4)
    with pytest.raises(BrokerUnavailable):
        run(lost, plan("artist", own_cases("artist"), limit=6))
    assert lost.cancelled


def _report() -> dict[str, Any]:
    measured = figures([heard("heard_cer", COLOUR, "가나|다", "가나*라"), Verdict("style_kept", COLOUR, good=True)])
    engines = {"llm": ["vllm 1 (tiny)"]}
    return {"pack": "artist", "adapter": "artist", "met": False, "figures": measured, "seconds": 60, "engines": engines}


def test_the_page_holds_table_failures_and_picture(tmp_path: Path) -> None:
    text = page({"artist": _report()}, "maeari evaluate --all")
    assert "| at most 0.08 | 0.500 **missed** | 1 |" in text
    assert "| at least 0.95 | 1.00 | 1 |" in text
    assert "- 가나\\|다 → 가나\\*라" in text
    written = write_page(tmp_path / "page.md", {"artist": _report()}, "maeari evaluate")
    assert all(file.is_file() for file in written)
    assert str(written[1].relative_to(tmp_path)) in written[0].read_text("utf-8")


def test_curves_are_drawn_for_every_stage(tmp_path: Path) -> None:
    (tmp_path / "language").mkdir()
    (tmp_path / "broken").mkdir()
    stage = {"curve": [[100, 4.0, 3.5], [200, 2.0, 1.9], [300, 1.0, 1.2]]}
    (tmp_path / "language" / "figures.json").write_text(json.dumps({"stages": [stage, stage]}), encoding="utf-8")
    (tmp_path / "broken" / "figures.json").write_text("{", encoding="utf-8")
    curves = learning_curves(tmp_path)
    assert [curve.title for curve in curves] == ["language, stage 1", "language, stage 2"]
    picture = ElementTree.fromstring(draw(curves))
    lines = picture.findall(".//{http://www.w3.org/2000/svg}polyline")
    assert len(lines) == 4
    first = [float(pair.split(",")[1]) for pair in lines[0].attrib["points"].split()]
    assert first == sorted(first), "a falling loss goes down the picture"
    assert ElementTree.fromstring(draw([])) is not None


def test_the_command_tells_programs_of_its_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--pack", "artist", "--cases", str(tmp_path / "no.jsonl"), "--json"]) == 1
    told = capsys.readouterr()
    assert json.loads(told.out)["error"]["code"] == "invalid_cases"
    assert "no.jsonl" in told.err
    assert command.main(["--pack", "nobody"]) == 1
    assert "unknown_pack" in capsys.readouterr().err
    assert command.main(["--all", "--write", str(tmp_path / "no" / "page.md")]) == 1
    assert "There is no folder" in capsys.readouterr().err
