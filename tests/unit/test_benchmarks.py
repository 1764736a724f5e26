"""The benchmarks' simulation and report writer; what they measure is no part of `make test`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.benchmarks import machine, report, simulation
from tests.benchmarks.measures import Section, Table, median, number, quantile, ratios
from tests.benchmarks.simulation import Clock, Costs, Engines, Job, Server


def test_servers_are_held_in_order_of_arrival() -> None:
    clock, one, ended = Clock(), Server("one"), []

    def job(seconds: float) -> Job:
        yield (one,), seconds

    for name, seconds in (("a", 3.0), ("b", 2.0), ("c", 1.0)):
        clock.start(job(seconds), lambda name=name: ended.append((name, clock.now)))  # type: ignore[misc]
    clock.run()
    assert ended == [("a", 3.0), ("b", 5.0), ("c", 6.0)]
    assert one.busy_s == 6.0 and one.longest == 2 and one.held == 0


def test_steps_hold_several_servers_together() -> None:
    clock, wide, narrow, ended = Clock(), Server("wide", slots=2), Server("narrow"), []

    def job() -> Job:
        yield (wide, narrow), lambda: 1.0
        yield (), 0.5

    for _ in range(2):
        clock.start(job(), lambda: ended.append(clock.now))
    clock.run()
    assert ended == [1.5, 2.5]


def test_slots_bound_long_jobs_and_cpu_bounds_short_ones() -> None:
    free = Costs(client_s=0.0, worker_s=0.0, redis_s=0.0)
    long = {
        workers: simulation.burst(free, workers=workers, slots=8, engine_s=1.0, jobs=64, cores=2) for workers in (1, 4)
    }
    assert long == {1: 8.0, 4: 32.0}
    costs = Costs(client_s=0.001, worker_s=0.002, redis_s=0.0005)
    short = simulation.burst(costs, workers=1, slots=16, engine_s=0.0, jobs=500, cores=8)
    assert 450 < short <= 500  # the worker's interpreter is the narrowest place: 2 ms a job


def test_a_burst_cannot_use_more_cores_than_there_are() -> None:
    costs = Costs(client_s=0.001, worker_s=0.002, redis_s=0.0005)
    rate = simulation.burst(costs, workers=4, slots=16, engine_s=0.0, jobs=500, cores=1)
    assert rate == pytest.approx(1 / 0.0035, rel=0.02)


def test_gpus_are_split_by_the_work_of_a_turn() -> None:
    engines = Engines()
    split = engines.split(1000)
    assert sum(split.values()) == 1000 and split["tts"] > split["llm"] > split["stt"] >= 1
    assert engines.capacity(split) == pytest.approx(split["tts"] / (engines.sentences * engines.sentence_s))


def test_one_redis_bounds_many_gpus_and_shards_lift_it() -> None:
    small = simulation.turns(Engines(), 0.01, gpus=64)
    assert small.achieved == pytest.approx(small.offered, rel=0.25) and small.redis < 0.5
    large = simulation.turns(Engines(), 0.01, gpus=1000)
    assert large.achieved < 100 and large.redis > 0.9 and large.longest == "redis"
    sharded = simulation.turns(Engines(), 0.01, gpus=1000, shards=16)
    assert sharded.achieved > 4 * large.achieved and sharded.longest != "redis"


def test_too_few_engines_make_the_line_before_synthesis() -> None:
    found = simulation.turns(Engines(), 0.001, gpus=16, load=2.0)
    assert found.longest == "tts" and found.achieved < found.offered


def test_figures() -> None:
    assert median([3, 1, 2]) == 2 and quantile([1, 2, 3, 4], 0.95) == 4
    assert ratios([2, 4], [1, 8]) == [2, 0.5]
    assert [number(value) for value in (0, 0.12345, 3.14159, 1234.5)] == ["0", "0.123", "3.14", "1,234"]


def _section(rate: float) -> Section:
    section = Section(figures={"rate": rate})
    section.at_least("a rate", rate, 1.0)
    section.tables.append(Table("Rates", ["system", "jobs/s"], [["this cluster", number(rate)]]))
    section.notes.append("Peer was not run: no network")
    series = {"this cluster": [float(place) for place in range(1000)]}
    section.pictures.append(
        {"kind": "distribution", "file": "d.svg", "caption": "Times.", "unit": "ms", "series": series}
    )
    return section


def test_the_page_says_what_was_met_missed_and_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Path] = []
    monkeypatch.setattr(report.pictures, "draw", lambda picture, path: drawn.append(path))
    report.update("hops", asdict(_section(2.0)), "Hops. More.", "others used 3 %", docs=tmp_path)
    report.update("scale", asdict(_section(0.5)), "Scale.", "others used 4 %", docs=tmp_path)
    page = (tmp_path / "benchmarks.md").read_text("utf-8")
    assert "| hops | a rate | at least 1 | 2.00 | yes |" in page
    assert "| scale | a rate | at least 1 | 0.50 | **no** |" in page
    assert "Peer was not run: no network" in page and "others used 3 %" in page
    assert "![Times.](pictures/d.svg)" in page and tmp_path / "pictures" / "d.svg" in drawn


def test_a_section_takes_the_place_of_its_last_measurement_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report.pictures, "draw", lambda picture, path: None)
    for name, rate in (("hops", 2.0), ("scale", 3.0), ("hops", 5.0)):
        report.update(name, asdict(_section(rate)), "Doc.", "quiet", docs=tmp_path)
    data = json.loads((tmp_path / "benchmarks.json").read_text("utf-8"))
    assert {name: section["figures"]["rate"] for name, section in data["sections"].items()} == {
        "hops": 5.0,
        "scale": 3.0,
    }
    points = data["sections"]["hops"]["pictures"][0]["series"]["this cluster"]
    assert len(points) == report.KEPT and points[0] == 0 and points[-1] == 999


def test_the_report_says_how_fast_the_machine_was() -> None:
    watch = machine.Watch()
    watch.end()
    watch._paces = [3.0, 1.5, 2.0]
    assert "took 2.00 ms of processor time, 1.3 times its best" in watch.noise()
    assert machine._pace() > 0
