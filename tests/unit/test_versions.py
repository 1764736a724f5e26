"""Versions of adapters: nothing half is ever seen, nothing unproven is served, and one step goes back."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from shared.cli.root import app
from shared.errors import InvalidAdapter, UnknownAdapter
from shared.settings import Settings, settings
from shared.versions import CONFIG, POINTER, WEIGHTS, Evaluation, NotPromoted, Registry, fingerprint
from tests.support.waiting import until

GOOD = {"style_kept": 0.97, "fact_stated": 0.92, "other_style_kept": 0.1}


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    lay(tmp_path / "shipped" / "artist", "shipped")
    return Registry(tmp_path / "versions", tmp_path / "shipped")


def lay(folder: Path, content: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text("{}")
    (folder / WEIGHTS).write_text(content)
    return folder


def about(**changes: Any) -> dict[str, Any]:
    return {
        "pack": "artist",
        "recipe_name": "adapter-artist",
        "recipe": {"kind": "adapter"},
        "recipe_hash": "r",
        "data_hash": "d",
        "base_model": "language",
        "base_fingerprint": "",
        "figures": {"steps": 3},
        "at_least": {"style_kept": 0.95, "fact_stated": 0.9},
        "at_most": {"other_style_kept": 0.3},
        "evaluation": Evaluation(at="now", source="training", figures=GOOD),
    } | changes


@pytest.fixture
def add(registry: Registry, tmp_path: Path) -> Callable[..., str]:
    """Register a version; its label."""

    def add(content: str = "weights", name: str = "artist", **changes: Any) -> str:
        return registry.register(name, lay(tmp_path / "trained", content), about(**changes)).label

    return add


def test_without_versions_the_shipped_one_is_served(registry: Registry, tmp_path: Path) -> None:
    assert registry.names() == ("artist",)
    assert registry.resolve("artist") == ("artist", tmp_path / "shipped" / "artist")
    with pytest.raises(UnknownAdapter):
        registry.resolve("nobody")


def test_versions_are_counted_and_served_only_when_promoted(registry: Registry, add: Callable[..., str]) -> None:
    assert (add("a"), add("b"), add("c", name="mentor")) == ("artist@1", "artist@2", "mentor@1")
    assert registry.names() == ("artist", "mentor")
    assert registry.resolve("artist")[0] == "artist"
    assert registry.resolve("artist@1")[1].joinpath(WEIGHTS).read_text() == "a"
    with pytest.raises(UnknownAdapter, match="mentor"):
        registry.resolve("mentor")
    registry.promote("artist@2", None)
    assert registry.resolve("artist")[0] == "artist@2"


def test_rollback_goes_back_step_by_step_to_what_was_shipped(registry: Registry, add: Callable[..., str]) -> None:
    for content in "ab":
        registry.promote(add(content), None)
    registry.promote("artist@2", None)  # a second time changes nothing
    assert registry.rollback("artist").serving == 1
    assert registry.rollback("artist").serving is None
    assert registry.resolve("artist")[0] == "artist"
    with pytest.raises(NotPromoted, match="Nothing was served"):
        registry.rollback("artist")


def test_what_does_not_pass_is_not_served(registry: Registry, add: Callable[..., str]) -> None:
    registry.promote(add("good"), None)
    poor = Evaluation(at="now", source="training", figures={"style_kept": 0.5, "other_style_kept": 0.9})
    label = add("poor", evaluation=poor)
    with pytest.raises(NotPromoted) as caught:
        registry.promote(label, None)
    for reason in ("style_kept is 0.50", "fact_stated was not measured", "other_style_kept is 0.90, at most 0.30"):
        assert reason in caught.value.message
    assert registry.resolve("artist")[0] == "artist@1"


@pytest.mark.parametrize("value", [float("nan")])
def test_a_figure_that_is_no_number_passes_nothing(registry: Registry, add: Callable[..., str], value: float) -> None:
    figures = dict.fromkeys(GOOD, value)
    label = add(evaluation=Evaluation(at="now", source="training", figures=figures))
    assert len(registry.version(label).shortcomings()) == 3


def test_the_latest_evaluation_decides(registry: Registry, add: Callable[..., str]) -> None:
    label = add()
    assert not registry.version(label).shortcomings()
    registry.record(label, Evaluation(at="later", source="cluster", figures=GOOD | {"fact_stated": 0.2}))
    with pytest.raises(NotPromoted, match=r"fact_stated is 0\.20"):
        registry.promote(label, None)
    registry.record(label, Evaluation(at="latest", source="cluster", figures=GOOD))
    assert registry.promote(label, None).evaluation.source == "cluster"


def test_files_that_changed_since_are_not_served(registry: Registry, add: Callable[..., str]) -> None:
    label = add()
    registry.resolve(label)[1].joinpath(WEIGHTS).write_text("other")
    with pytest.raises(NotPromoted, match="not those that were registered"):
        registry.promote(label, None)


def test_half_an_adapter_is_not_registered(registry: Registry, tmp_path: Path) -> None:
    half = lay(tmp_path / "half", "x")
    (half / WEIGHTS).unlink()
    with pytest.raises(InvalidAdapter, match=WEIGHTS):
        registry.register("artist", half, about())
    assert registry.numbers("artist") == ()
    assert [path.name for path in (tmp_path / "versions" / "artist" / "versions").iterdir()] == []


def test_another_base_is_noticed(registry: Registry, add: Callable[..., str], tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text("{}")
    (base / "model.safetensors").write_bytes(bytes(3_000_000))
    label = add(base_fingerprint=fingerprint(base))
    registry.promote(label, base)
    (base / "model.safetensors").write_bytes(bytes(2_999_999) + b"1")
    with pytest.raises(NotPromoted, match="trained over another language"):
        registry.promote(label, base)


def test_a_pointer_that_nobody_can_read_is_an_error_not_another_adapter(
    registry: Registry, add: Callable[..., str]
) -> None:
    registry.promote(add(), None)
    (registry.folder / "artist" / POINTER).write_text("{")
    with pytest.raises(InvalidAdapter, match=POINTER):
        registry.resolve("artist")


@pytest.mark.parametrize(
    "label", ["../artist", "artist@x", "@1", "artist@1@2", "a/b", "..", "artist@../1", "artist@", ""]
)
def test_a_name_is_no_path(registry: Registry, add: Callable[..., str], label: str) -> None:
    add()
    with pytest.raises(UnknownAdapter):
        registry.resolve(label)


def test_trainers_that_finish_together_get_numbers_of_their_own(registry: Registry, tmp_path: Path) -> None:
    def register(number: int) -> int:
        return registry.register("artist", lay(tmp_path / f"t{number}", str(number)), about()).number

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(register, range(8))) == list(range(1, 9))


def test_a_reader_never_sees_a_moment_without_an_adapter(registry: Registry, add: Callable[..., str]) -> None:
    for content in "ab":
        add(content)
    over, seen = threading.Event(), set()

    def read() -> None:
        while not over.is_set():
            label, folder = registry.resolve("artist")
            seen.add((label, folder.joinpath(WEIGHTS).read_text()))

    def back_and_forth() -> bool:
        registry.promote("artist@1", None)
        registry.promote("artist@2", None)
        return len(seen) > 1

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        try:
            for _ in range(40):
                back_and_forth()
            until(back_and_forth, "the readers have seen a change", every_s=0.0)
        finally:
            over.set()
        for reader in readers:
            reader.result()
    assert seen <= {("artist", "shipped"), ("artist@1", "a"), ("artist@2", "b")}


# --- the command ---


@pytest.fixture
def maeari(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`maeari adapter ... --json`: its object and exit status."""
    config = Settings(home=tmp_path, adapter_versions_path=registry.folder, llm_adapters_path=tmp_path / "shipped")
    monkeypatch.setattr("shared.settings.settings", lambda: config)

    def run(*words: str) -> tuple[Any, int]:
        done = CliRunner().invoke(app, ["adapter", *words, "--json"])
        return json.loads(done.stdout), done.exit_code

    settings.cache_clear()
    return run


def test_the_command_lists_promotes_and_goes_back(maeari: Callable[..., Any], add: Callable[..., str]) -> None:
    add("a"), add("b")
    rows, status = maeari("list")
    assert status == 0
    assert [(row["version"], row["served"]) for row in rows] == [
        ("artist", True),
        ("artist@1", False),
        ("artist@2", False),
    ]
    assert maeari("promote", "artist@2") == ({"adapter": "artist", "served": "artist@2", "before": [None]}, 0)
    assert maeari("promote", "artist@1")[0]["served"] == "artist@1"
    assert maeari("rollback", "artist") == ({"adapter": "artist", "served": "artist@2", "before": [None]}, 0)
    shown, _ = maeari("show", "artist@2")
    assert (shown["recipe_name"], shown["figures"], shown["shortcomings"]) == ("adapter-artist", {"steps": 3}, [])


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("promote", "artist"), "invalid_request"),
        (("promote", "artist@7"), "unknown_adapter"),
        (("show", "nobody@1"), "unknown_adapter"),
        (("rollback", "artist"), "not_promoted"),
    ],
)
def test_the_command_says_what_is_wrong(maeari: Callable[..., Any], words: tuple[str, ...], code: str) -> None:
    told, status = maeari(*words)
    assert (told["error"]["code"], status) == (code, 1)


def test_tables_for_people(maeari: Callable[..., Any], add: Callable[..., str]) -> None:
    add()
    shown = CliRunner().invoke(app, ["adapter", "list"]).stdout
    assert "artist@1" in shown and "shipped" in shown
    shown = CliRunner().invoke(app, ["adapter", "show", "artist@1"]).stdout
    assert "style_kept" in shown and "at least 0.95" in shown
    assert "from now on" in CliRunner().invoke(app, ["adapter", "promote", "artist@1"]).stdout
