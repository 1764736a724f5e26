"""`maeari evaluate` asks the running cluster: what it finds is what a caller would get."""

from __future__ import annotations

import json
from pathlib import Path

from shared.settings import ROOT
from shared.versions import Evaluation, Registry, fingerprint, now
from tests.support.waiting import until

from .conftest import Cluster

ADAPTERS = ROOT / "deploy" / "models" / "laptop" / "adapters"

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


def _llm(cluster: Cluster) -> int:
    """Process of the llm worker, waited for."""
    found = lambda: [w.pid for w in cluster.producer.workers() if w.role == "llm" and w.state == "ready"]  # noqa: E731
    return until(found, "the llm worker is ready")[0]


def test_a_version_is_measured_promoted_served_without_a_restart_and_rolled_back(cluster: Cluster) -> None:
    registry = Registry(cluster.home / "versions", cluster.home / "adapters")
    figures = {"style_kept": 0.0}
    about = {
        "pack": "artist", "recipe_name": "adapter-artist", "recipe": {}, "recipe_hash": "", "data_hash": "", "base_model": "language",
        "base_fingerprint": fingerprint(ADAPTERS.parent / "language"), "figures": {}, "at_least": {"style_kept": 0.01, "fact_stated": 0.0},
        "at_most": {"other_style_kept": 0.99}, "evaluation": Evaluation(at=now(), source="training", figures=figures),
    }  # fmt: skip
    # The other pack's style under this one's name: what a promotion changes is heard at once.
    label = registry.register("artist", ADAPTERS / "parent", about).label
    assert cluster.maeari("adapter", "promote", label, ok=False).returncode == 1, "it does not pass"

    def ask(*more: str) -> str:
        words = ("ask", "--pack", "artist", "--text", "좋아하는 색이 뭐야?", "--no-speak")
        return str(cluster.json(*words, *more)["adapter_version"])

    assert ask().startswith("artist@") and ask() != label
    assert ask("--adapter", label) == label
    registry.record(
        label,
        Evaluation(
            at=now(), source="cluster", figures={"style_kept": 1.0, "fact_stated": 1.0, "other_style_kept": 0.0}
        ),
    )
    llm = _llm(cluster)
    assert cluster.json("adapter", "promote", label)["served"] == label
    assert ask() == label
    assert cluster.json("adapter", "rollback", "artist")["served"] == "artist"
    assert ask() != label
    assert _llm(cluster) == llm, "without a restart"

    report = cluster.json("adapter", "evaluate", label, "--limit", "4")
    assert set(report["figures"]) == {"fact_stated", "style_kept", "recall_stated", "other_style_kept"}
    version = registry.version(label)
    assert version.evaluation.source == "cluster"
    # A parent's voice breaks an artist's rules and keeps a parent's.
    assert version.evaluation.figures["style_kept"] == 0.0
    assert version.evaluation.figures["other_style_kept"] > 0.2
    assert report["shortcomings"] == version.shortcomings() != []


def test_a_mistake_in_a_file_is_named_before_anything_is_asked(cluster: Cluster, tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text('{"turns": ["안녕?"]}\n{"turn": "안녕?"}\n', encoding="utf-8")
    done = cluster.maeari("evaluate", "--pack", "artist", "--cases", str(file), ok=False)
    assert done.returncode == 1
    assert f"{file}:2: turns: Field required" in done.stderr
