"""Jobs per second against worker processes with timed fake engines, and a simulation of up to 1,000 GPUs checked against it."""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from pathlib import Path

import psutil

from shared.blobs import open_store
from shared.producer import Producer
from tests.support.workers import WorkerProcess

from . import simulation
from .measures import Section, Table, median, number
from .stage import Stage, spoken_question, stage

SLOTS, JOB_MS, WAVES = 8, 1000, 3
WORKERS = tuple(int(count) for count in os.environ.get("BENCH_SCALE_WORKERS", "1 2 4 8").split())
ROUNDS, BURST, TURNS = (
    int(os.environ.get(f"BENCH_SCALE_{name}", default))
    for name, default in {"ROUNDS": 2, "BURST": 2000, "TURNS": 24}.items()
)
GPUS = (8, 16, 32, 64, 128, 256, 512, 1000)
SHARDS = (1, 2, 4, 8, 16)
TOKEN_MS = 100


def measure(folder: Path) -> Section:
    """Growing clusters, then the costs of a job and of a turn, then the simulation."""
    section = Section()
    for name in ("slots", "burst", "turns"):
        (folder / name).mkdir()
    rates = _grow(folder / "slots")
    costs, burst = _burst(folder / "burst")
    turn_s = _turns(folder / "turns")
    _report_growth(section, rates, costs)
    _report_burst(section, costs, burst)
    _report_simulation(section, turn_s)
    return section


def _rate(producer: Producer, jobs: int) -> float:
    request = {"messages": [{"role": "user", "content": "안녕"}], "sampling": {"max_tokens": 512}}
    began = time.perf_counter()
    ids = [producer.submit("llm.generate", request).job_id for _ in range(jobs)]
    for job_id in ids:
        producer.result(job_id, timeout_s=120)
    return jobs / (time.perf_counter() - began)


def _grow(folder: Path) -> dict[int, list[float]]:
    """Jobs per second by number of workers, each with `SLOTS` slots and jobs of `JOB_MS`."""
    reply = "가나" * (JOB_MS // TOKEN_MS)
    environment = {
        "MAEARI_ENGINES": "scripted", "MAEARI_SCRIPTED_TOKEN_MS": str(TOKEN_MS), "MAEARI_SCRIPTED_REPLY": reply,
        "MAEARI_LLM_MAX_NUM_SEQS": str(SLOTS), "MAEARI_TASK_EVENTS": "false", "MAEARI_TENANT_SHARE": "128",
    }  # fmt: skip
    rates: dict[int, list[float]] = {}
    with stage(folder, ["llm"], **environment) as on:
        for count in WORKERS:
            _add(on, folder, count, environment)
            rates[count] = [_rate(on.producer, WAVES * SLOTS * count) for _ in range(ROUNDS)]
    return rates


def _add(on: Stage, folder: Path, count: int, environment: dict[str, str]) -> None:
    variables = {"MAEARI_REDIS_URL": on.server.url, "MAEARI_HOME": str(folder), "MAEARI_LOG_LEVEL": "WARNING"}
    new = [
        WorkerProcess("llm", folder, variables | environment, name=f"llm-{place}@bench")
        for place in range(len(on.workers), count)
    ]
    on.workers.extend(new)
    for worker in new:
        worker.wait_ready(on.producer, timeout_s=120)


def _burst(folder: Path) -> tuple[simulation.Costs, float]:
    """CPU seconds of a no-op job by process, and jobs per second of a burst through one worker."""
    environment = {"MAEARI_ENGINES": "scripted", "MAEARI_TASK_EVENTS": "false", "MAEARI_TENANT_SHARE": "16"}
    payload = {"texts": ["가" * 300]}
    with stage(folder, ["rag"], **environment) as on:
        rates, costs = [], []
        for _ in range(ROUNDS + 1):
            before, began = _cpu(on), time.perf_counter()
            ids = [on.producer.submit("rag.embed", payload).job_id for _ in range(BURST)]
            for job_id in ids:
                on.producer.result(job_id, timeout_s=120)
            rates.append(BURST / (time.perf_counter() - began))
            costs.append([(after - start) / BURST for start, after in zip(before, _cpu(on), strict=True)])
    client, worker, redis = (median([cost[at] * 1e6 for cost in costs[1:]]) / 1e6 for at in range(3))
    return simulation.Costs(client, worker, redis), median(rates[1:])


def _cpu(on: Stage) -> tuple[float, float, float]:
    process = on.workers[0].process
    assert process is not None
    info = on.server.client.info("cpu")
    return (
        time.process_time(),
        sum(psutil.Process(process.pid).cpu_times()[:2]),
        float(info["used_cpu_sys"]) + float(info["used_cpu_user"]),
    )


def _turns(folder: Path) -> float:
    """CPU seconds that Redis takes for a spoken turn of five sentences whose text is streamed."""
    audio = spoken_question(folder).read_bytes()
    ref = open_store((folder / "blobs").as_uri()).put("default", "audio", "q.wav", audio, "audio/wav")
    roles = ["conductor", "llm", "stt", "tts", "rag"]
    environment = {"MAEARI_ENGINES": "scripted", "MAEARI_TASK_EVENTS": "false", "MAEARI_SCRIPTED_SENTENCE_MS": "40"}

    def turn(producer: Producer, place: int) -> None:
        request = {"pack": "artist", "session": f"s{place}", "audio": ref.model_dump(exclude_none=True)}
        for _ in producer.follow(producer.submit("turns.start", request).job_id, timeout_s=60):
            pass

    with stage(folder, roles, **environment) as on:
        turn(on.producer, -1)
        began, before = time.perf_counter(), _cpu(on)[2]
        for place in range(TURNS):
            turn(on.producer, place)
        seconds, used = time.perf_counter() - began, _cpu(on)[2] - before
        before = _cpu(on)[2]
        time.sleep(2)  # what it uses when nothing runs is not the turns' cost
        idle = (_cpu(on)[2] - before) / 2
    return max(used - idle * seconds, 0.0) / TURNS


def _cores() -> int:
    return os.cpu_count() or 1


def _report_growth(section: Section, rates: dict[int, list[float]], costs: simulation.Costs) -> None:
    first = median(rates[WORKERS[0]]) / WORKERS[0]
    rows, linear, errors, drawn = [], [], [], []
    for count, found in rates.items():
        rate = median(found)
        simulated = simulation.burst(
            costs, workers=count, slots=SLOTS, engine_s=JOB_MS / 1000, jobs=WAVES * SLOTS * count, cores=_cores()
        )
        share = rate / count / first
        linear.append(share)
        errors.append(abs(simulated / rate - 1))
        drawn.append(simulated)
        cells = [number(rate), f"{share:.2f}", number(simulated), f"{simulated / rate - 1:+.0%}"]
        rows.append([f"{count} ({count * SLOTS} slots)", *cells])
    columns = ["worker processes", "jobs/s", "of linear", "simulated", "error"]
    section.tables.append(Table(f"Jobs of {JOB_MS / 1000:g} s, {SLOTS} slots a worker", columns, rows))
    section.figures |= {
        "jobs_per_added_worker_of_linear": round(min(linear), 3),
        "simulation_error": round(max(errors), 3),
    }
    section.at_least("jobs/s per added worker, of linear, up to 64 slots", min(linear), 0.9)
    section.at_most("error of the simulation at the measured points", max(errors), 0.15)
    section.pictures.append(
        {"kind": "lines", "file": "bench-scale.svg", "x": [str(count) for count in rates], "unit": "jobs/s"}
        | {"x_label": "worker processes of 8 slots", "caption": "Jobs of a second against worker processes."}
        | {"series": {"measured": [median(found) for found in rates.values()], "simulated": drawn}}
    )


def _report_burst(section: Section, costs: simulation.Costs, measured: float) -> None:
    simulated = simulation.burst(costs, workers=1, slots=16, engine_s=0.0, jobs=BURST, cores=_cores())
    cpu = {name: f"{seconds * 1000:.2f}" for name, seconds in asdict(costs).items()}
    columns = ["", "client", "worker", "Redis", "burst, jobs/s", "simulated", "error"]
    cells = [cpu["client_s"], cpu["worker_s"], cpu["redis_s"], number(measured), number(simulated)]
    row = ["no-op job of 1 kB, CPU ms", *cells, f"{simulated / measured - 1:+.0%}"]
    section.tables.append(Table("What a job costs", columns, [row]))
    section.figures |= {
        "redis_cpu_ms_per_hop": round(costs.redis_s * 1000, 3),
        "worker_cpu_ms_per_hop": round(costs.worker_s * 1000, 3),
        "simulated_over_measured_burst": round(simulated / measured, 3),
    }


def _report_simulation(section: Section, turn_s: float) -> None:
    engines = simulation.Engines()
    rows, achieved, offered = [], [], []
    for gpus in GPUS:
        found = simulation.turns(engines, turn_s, gpus=gpus)
        achieved.append(found.achieved)
        offered.append(found.offered)
        cells = [number(found.offered), number(found.achieved), f"{found.redis:.0%}", f"{found.first_audio_s:.2f}"]
        rows.append([str(gpus), *cells, found.longest])
    columns = ["GPUs", "turns/s handed in", "done", "Redis busy", "first audio, s p50", "longest line"]
    section.tables.append(Table("Simulated: one Redis, load 0.8 of what the engines could do", columns, rows))
    sharded = [simulation.turns(engines, turn_s, gpus=GPUS[-1], shards=shards) for shards in SHARDS]
    rows = [[str(o.shards), number(o.achieved), f"{o.redis:.0%}", f"{o.first_audio_s:.2f}", o.longest] for o in sharded]
    columns = ["Redis shards", "turns/s", "busiest Redis", "first audio, s p50", "longest line"]
    section.tables.append(Table(f"Simulated: {GPUS[-1]:,} GPUs", columns, rows))
    saturates = 1 / turn_s
    per_gpu = 0.8 * engines.capacity(engines.split(GPUS[-1])) / GPUS[-1]
    enough = next((o.shards for o in sharded if o.redis < 0.8), SHARDS[-1])
    section.figures |= {
        "redis_cpu_ms_per_turn": round(turn_s * 1000, 3),
        "turns_per_s_at_redis_saturation": round(saturates, 1),
        "gpus_at_redis_saturation": round(saturates / per_gpu),
        "shards_for_1000_gpus": enough,
    }
    split = engines.split(GPUS[-1])
    section.notes.append(
        f"A spoken turn of five sentences takes {turn_s * 1000:.1f} ms of Redis's one thread on this machine, so one Redis "
        f"carries about {saturates:.0f} turns/s: at a load of 0.8 that is {saturates / per_gpu:.0f} GPUs with the engines assumed here. "
        f"Below that the line forms before synthesis ({split['tts']} of {GPUS[-1]:,} GPUs speak, {split['llm']} write, {split['stt']} listen); "
        f"beyond it before Redis itself. To shard: by job, for all keys of a job and its events stand alone; {enough} Redis servers carry {GPUS[-1]:,} GPUs."
    )
    section.notes.append(
        "Assumed on each GPU: 75 ms a transcription in 16 slots, 60 tokens of 15 ms in 64 slots, 350 ms a sentence, one at a time. "
        "Network and the conductors' CPU are left out."
    )
    section.pictures.append(
        {"kind": "lines", "file": "bench-simulation.svg", "x": [str(gpus) for gpus in GPUS], "unit": "turns/s"}
        | {
            "x_label": "GPUs (simulated)",
            "caption": "Spoken turns per second against GPUs behind one Redis, simulated.",
        }
        | {"series": {"handed in": offered, "done": achieved}}
    )
