"""`maeari evaluate` asks the running cluster: what it finds is what a caller would get."""

from __future__ import annotations

import json
from pathlib import Path

from .conftest import Cluster

CASES = (
    {"turns": ["좋아하는 색이 뭐야?"], "expect": ["남색"]},
    {"id": "name", "turns": ["내 이름은 하늘이야.", "내 이름 기억해?"], "expect": ["하늘"], "name": "하늘"},
)


def test_cases_of_one_s_own_give_every_figure(cluster: Cluster, tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text("\n".join(json.dumps(case, ensure_ascii=False) for case in CASES), encoding="utf-8")
    report = cluster.json("evaluate", "--pack", "artist", "--cases", str(file))
    assert set(report["figures"]) == {
        "heard_cer", "noisy_cer", "hit_at_3", "fact_stated", "style_kept", "other_style_kept", "recall_stated", "spoken_back_cer",
    }  # fmt: skip
    assert all(figure["failed_jobs"] == 0 for figure in report["figures"].values())
    counted = {name: figure["cases"] for name, figure in report["figures"].items()}
    assert (counted["heard_cer"], counted["style_kept"], counted["recall_stated"]) == (2, 2, 1)
    # The chunk is there, and the words were said: the cluster cannot have been silent.
    assert report["figures"]["hit_at_3"]["value"] == 1.0
    assert report["figures"]["heard_cer"]["value"] < 0.9
    assert report["engines"]["llm"] and report["engines"]["stt"]


def test_own_cases_come_as_a_table_and_a_page(cluster: Cluster, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    done = cluster.maeari("evaluate", "--pack", "parent", "--limit", "2", "--write", str(page))
    assert "figure" in done.stdout and "at most 0.08" in done.stdout
    assert "parent: " in done.stderr, "progress is told"
    assert "## Learning curves" in page.read_text("utf-8")
    assert (tmp_path / "pictures" / "learning-curves.svg").stat().st_size > 1000


def test_a_mistake_in_a_file_is_named_before_anything_is_asked(cluster: Cluster, tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text('{"turns": ["안녕?"]}\n{"turn": "안녕?"}\n', encoding="utf-8")
    done = cluster.maeari("evaluate", "--pack", "artist", "--cases", str(file), ok=False)
    assert done.returncode == 1
    assert f"{file}:2: turns: Field required" in done.stderr
