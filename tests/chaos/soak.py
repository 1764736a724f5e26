"""`python -m tests.chaos.soak --minutes 30`: turns at a steady rate on scripted engines; is memory flat?

Writes a picture and, as its last line, one JSON object. Finished jobs are kept for a minute here, so that Redis reaches
its level within the run.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from matplotlib.figure import Figure

from tests.support.load import SteadyLoad
from tests.support.scripted import ScriptedCluster
from tests.support.servers import RedisServer

CREW = ("conductor-1", "llm-1", "tts-1", "rag-1", "stt-1")
INTENDED_MINUTES = 30
KEPT_S = 60
SAMPLE_S = 5.0
SETTLED = 0.4
"""Share of the run after which levels are reached; growth is measured from there to the end."""
MIB = 1024 * 1024
PICTURE = Path(__file__).resolve().parents[2] / "docs" / "pictures" / "soak.png"


@dataclass
class Samples:
    """What was seen over time."""

    seconds: list[float] = field(default_factory=list)
    rss: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Resident MiB of each process."""
    redis: list[float] = field(default_factory=list)
    """MiB that Redis uses for data."""
    jobs: list[int] = field(default_factory=list)
    """Handed in so far."""

    def take(self, cluster: ScriptedCluster, began: float, jobs: int) -> None:
        """Look at every process."""
        self.seconds.append(time.monotonic() - began)
        self.jobs.append(jobs)
        for name, worker in cluster.workers.items():
            assert worker.process is not None and worker.process.poll() is None, f"{name} has ended"
            self.rss[name].append(psutil.Process(worker.process.pid).memory_info().rss / MIB)
        memory = cluster.server.client.info("memory")
        self.rss["redis"].append(memory["used_memory_rss"] / MIB)
        self.redis.append(memory["used_memory"] / MIB)

    def growth(self, values: list[float]) -> float:
        """MiB per hour, by least squares over the settled part."""
        start = int(len(values) * SETTLED)
        times, found = self.seconds[start:], values[start:]
        middle, mean = sum(times) / len(times), sum(found) / len(found)
        spread = sum((at - middle) ** 2 for at in times)
        return 3600 * sum((at - middle) * (value - mean) for at, value in zip(times, found, strict=True)) / spread


def soak(folder: Path, minutes: float, every_s: float) -> tuple[Samples, dict[str, int]]:
    """Run; the samples, and how the jobs ended."""
    settings = {"job_ttl_s": KEPT_S, "events_ttl_s": KEPT_S, "session_ttl_s": KEPT_S, "log_level": "WARNING"}
    reply = {"scripted_reply": "안녕하세요. 반가워요.", "scripted_sentence_ms": 100, "scripted_token_ms": 15}
    server = RedisServer(folder / "redis", "--appendfsync", "everysec")
    cluster = ScriptedCluster(folder, *CREW, server=server, **settings, **reply)
    samples, began = Samples(), time.monotonic()
    try:
        with SteadyLoad(cluster, "soak", every_s=every_s) as load:
            while time.monotonic() - began < 60 * minutes:
                samples.take(cluster, began, len(load.jobs))
                time.sleep(SAMPLE_S)
        return samples, _ends(cluster, load.jobs)
    finally:
        cluster.close()


def _ends(cluster: ScriptedCluster, jobs: list[str]) -> dict[str, int]:
    """States of the jobs that are still kept, and `expired` for those before."""
    views = [cluster.producer.job(job_id) for job_id in jobs]
    return dict(Counter(view.state if view else "expired" for view in views))


def draw(samples: Samples, minutes: float, path: Path) -> None:
    """The picture."""
    figure = Figure(figsize=(9, 7))
    upper, lower = figure.subplots(2, 1, sharex=True)
    at = [second / 60 for second in samples.seconds]
    for name, values in samples.rss.items():
        upper.plot(at, values, label=f"{name} ({samples.growth(values):+.1f} MiB/h)")
    upper.set_ylabel("resident memory, MiB")
    upper.set_ylim(bottom=0)
    upper.legend(loc="lower right", fontsize=8)
    lower.plot(at, samples.redis, color="tab:red", label=f"Redis data ({samples.growth(samples.redis):+.2f} MiB/h)")
    lower.axvline(KEPT_S / 60, color="grey", linestyle=":", label=f"the first jobs expire after {KEPT_S} s")
    lower.set_ylabel("used by Redis, MiB")
    lower.set_ylim(bottom=0)
    lower.set_xlabel("minutes")
    lower.legend(loc="lower right", fontsize=8)
    short = f" (a short run: {INTENDED_MINUTES} minutes are intended)" if minutes < INTENDED_MINUTES else ""
    figure.suptitle(f"{samples.jobs[-1]} jobs in {minutes:g} minutes, scripted engines{short}", fontsize=11)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Run, draw, print; 1 when a job was lost."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.soak")
    parser.add_argument("--minutes", type=float, default=float(INTENDED_MINUTES))
    parser.add_argument("--every", type=float, default=0.25, help="seconds between two jobs; every other is a turn")
    parser.add_argument("--picture", type=Path, default=PICTURE)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        samples, ends = soak(Path(folder), options.minutes, options.every)
    draw(samples, options.minutes, options.picture)
    figures = {
        "minutes": options.minutes,
        "jobs": samples.jobs[-1],
        "ends": ends,
        "rss_mib_last": {name: round(values[-1], 1) for name, values in samples.rss.items()},
        "rss_mib_per_hour": {name: round(samples.growth(values), 2) for name, values in samples.rss.items()},
        "redis_mib_last": round(samples.redis[-1], 2),
        "redis_mib_per_hour": round(samples.growth(samples.redis), 2),
    }
    sys.stdout.write(json.dumps(figures) + "\n")
    sys.exit(0 if set(ends) <= {"done", "expired"} else 1)


if __name__ == "__main__":
    main()
