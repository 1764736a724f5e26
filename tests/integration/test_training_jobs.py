"""Training as jobs: a real trainer process, a real recipe of seconds, faults at the worst moments.

What needs no process boundary is in `tests/unit/test_training_trouble.py`.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from shared.contracts.events import Event, Progress
from shared.errors import ConfigurationInvalid, InvalidRequest, JobCancelled, UnknownRecipe
from shared.producer import Producer
from shared.settings import ROOT
from shared.versions import Registry
from tests.support.processes import lives
from tests.support.servers import RedisServer
from tests.support.training import Workshop, make_workshop, whole_environment
from tests.support.waiting import until
from tests.support.workers import WorkerProcess
from workers.training import files

pytestmark = pytest.mark.timeout(900)

LONG = {"batch": 4, "steps": 100_000, "learning_rate": 0.001, "validate_every": 20}
"""Far longer than any test waits."""


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return make_workshop(tmp_path_factory.mktemp("workshop"))


class Crew:
    """A conductor, which reconciles, and a trainer."""

    def __init__(self, workshop: Workshop, folder: Path, url: str) -> None:
        self.environment = workshop.environment | {
            "MAEARI_REDIS_URL": url,
            "MAEARI_LEASE_S": "5",
            "MAEARI_DRAIN_S": "1",
            "MAEARI_TENANTS": "default",
        }
        self.producer = Producer(url)
        self.jobs: list[str] = []
        self.registry = Registry(workshop.versions, workshop.folder / "models" / "adapters")
        self.workers = [WorkerProcess(role, folder, self.environment) for role in ("conductor", "trainer")]
        self.trainer = self.workers[1]
        for worker in self.workers:
            worker.wait_ready(self.producer)

    def submit(self, recipe: str, **more: Any) -> str:
        job = self.producer.submit("training.run", {"recipe": recipe} | more, deadline_s=1200)
        self.jobs.append(job.job_id)
        return job.job_id

    def result(self, job_id: str) -> dict[str, Any]:
        return self.producer.result(job_id, timeout_s=480)

    def follow(self, job_id: str, enough: Callable[[Event], bool]) -> Event:
        """The first event that is `enough`."""
        for event in self.producer.follow(job_id, timeout_s=240):
            if enough(event):
                return event
        raise AssertionError("the stream ended")

    def step(self, job_id: str, *, after: int = 0, least: int = 1) -> Progress:
        """Behind that event: wait until the training has made so many steps."""
        event = self.follow(job_id, lambda e: e.seq > after and e.type == "progress" and e.done >= least)
        assert isinstance(event, Progress)
        return event

    def trainings(self) -> list[psutil.Process]:
        """The processes that train now."""
        assert self.trainer.process is not None
        found: list[psutil.Process] = []
        with contextlib.suppress(psutil.NoSuchProcess):
            found = psutil.Process(self.trainer.process.pid).children()
        return [process for process in found if lives(process)]

    def training(self) -> psutil.Process:
        """The process that trains, waited for."""
        (found,) = until(self.trainings, "a process trains")
        return found

    def rest(self) -> None:
        """Nothing trains any more."""
        for job_id in self.jobs:
            self.producer.cancel(job_id)
        self.jobs.clear()
        until(lambda: not self.trainings(), "nothing trains any more")


@pytest.fixture(scope="module")
def crew(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crew]:
    folder = tmp_path_factory.mktemp("crew")
    server = RedisServer(folder)
    crew = Crew(workshop, folder, server.url)
    try:
        yield crew
    finally:
        for worker in crew.workers:
            worker.close()
        server.close()


def checkpoints(workshop: Workshop) -> list[Path]:
    return list((workshop.folder / "home" / "runs").glob("*/checkpoint.pt"))


def kept_step(workshop: Workshop) -> int:
    """The step of the only checkpoint that there is, waited for."""
    (found,) = until(lambda: checkpoints(workshop), "a checkpoint is kept", timeout_s=240)
    return int(files.load(found)["state"]["step"])


@pytest.fixture(autouse=True)
def nothing_is_left(crew: Crew, workshop: Workshop) -> Iterator[None]:
    """No training outlives its test, and none goes on from another's checkpoint."""
    yield
    crew.rest()
    for file in (workshop.folder / "home" / "runs").glob("*/*.pt"):
        file.unlink()


def test_a_job_trains_and_registers_a_version(crew: Crew, workshop: Workshop) -> None:
    workshop.recipe("adapter-short")
    job_id = crew.submit("adapter-short", promote=True)
    result = crew.result(job_id)
    assert (result["version"], result["promoted"], result["shortcomings"]) == ("short@1", True, [])
    version = crew.registry.version("short@1")
    assert version.figures["steps"] == 6 and version.recipe["lora"]["rank"] == 8
    assert version.data_hash and version.base_fingerprint and len(version.digest) == 64
    assert crew.registry.resolve("short")[0] == "short@1"
    told = [event for event in crew.producer.follow(job_id) if event.type == "progress"]
    assert (told[-1].done, told[-1].total) == (6, 6)
    assert all(event.loss and event.rate and event.eta_s is not None for event in told)


def maeari(crew: Crew, workshop: Workshop, *words: str) -> subprocess.CompletedProcess[str]:
    """The command that people type; it succeeds."""
    command = [sys.executable, "-m", "shared.cli", "train", *words, "--queue"]
    environment = whole_environment(workshop) | crew.environment
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)


def test_the_command_hands_a_job_in_and_shows_how_far_it_is(crew: Crew, workshop: Workshop) -> None:
    workshop.recipe("adapter-queued")
    done = maeari(crew, workshop, "adapter-queued")
    assert "Registered as queued@1. It is not served." in done.stdout
    assert "step 6 of 6, loss" in done.stderr


def test_what_was_killed_goes_on_from_its_checkpoint(crew: Crew, workshop: Workshop) -> None:
    """First the training, then the trainer with the next attempt; the third one ends when its minutes are over."""
    workshop.recipe("adapter-killed", schedule=LONG | {"max_minutes": 0.05})
    job_id = crew.submit("adapter-killed")
    kept = kept_step(workshop)
    crew.training().kill()
    retrying = crew.follow(job_id, lambda event: event.type == "retrying")
    assert retrying.type == "retrying" and "signal 9" in retrying.fault.message
    assert crew.step(job_id, after=retrying.seq).done > kept, "it did not begin anew"
    orphan = crew.training()
    crew.trainer.kill()
    until(lambda: not lives(orphan), "nothing trains unseen")
    kept = kept_step(workshop)
    crew.trainer.start()
    started = crew.follow(job_id, lambda event: event.type == "started" and event.attempt == 3)
    assert crew.step(job_id, after=started.seq).done > kept, "it did not begin anew"
    result = crew.result(job_id)
    assert (result["version"], result["figures"]["steps"] > kept) == ("killed@1", True)
    crew.trainer.wait_ready(crew.producer)


def test_a_training_stops_within_a_step_and_keeps_its_checkpoint(crew: Crew, workshop: Workshop) -> None:
    """A draining trainer hands it back, the next one goes on with it, and then it is cancelled."""
    workshop.recipe("adapter-stopped", schedule=LONG | {"validate_every": 50_000})
    job_id = crew.submit("adapter-stopped")
    made = crew.step(job_id, least=5)
    assert crew.trainer.drain() == 0
    kept = kept_step(workshop)
    assert kept >= made.done
    crew.trainer.start()
    crew.trainer.wait_ready(crew.producer)
    started = crew.follow(job_id, lambda event: event.seq > made.seq and event.type == "started")
    again = crew.step(job_id, after=started.seq)
    assert again.done > kept, "it did not begin anew"
    crew.producer.cancel(job_id)
    with pytest.raises(JobCancelled):
        crew.result(job_id)
    until(lambda: not crew.trainings(), "the training has ended")
    assert kept_step(workshop) >= again.done
    assert not crew.registry.numbers("stopped")
    view = crew.producer.job(job_id)
    assert view is not None and view.state == "cancelled"


def test_a_link_out_of_the_folders_of_recipes_is_no_recipe(crew: Crew, workshop: Workshop, tmp_path: Path) -> None:
    outside = workshop.recipe("adapter-outside").rename(tmp_path / "adapter-outside.yaml")
    (workshop.recipes / "adapter-link.yaml").symlink_to(outside)
    with pytest.raises(UnknownRecipe):
        crew.result(crew.submit("adapter-link"))


@pytest.mark.parametrize("recipe", ["../recipes/adapter-short", "/etc/passwd", "adapter-short.yaml/..", ""])
def test_a_path_is_refused_at_the_door(crew: Crew, recipe: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        crew.submit(recipe)
    assert caught.value.field == "recipe"


def test_a_bad_recipe_fails_at_once_and_is_not_tried_again(crew: Crew, workshop: Workshop) -> None:
    workshop.recipe("adapter-typing", lora={"rank": 8, "alpha": 16, "drop": 0.1})
    told = maeari(crew, workshop, "adapter-typing", "--no-wait", "--json")
    job_id = json.loads(told.stdout)["job_id"]
    with pytest.raises(ConfigurationInvalid, match=r"adapter-typing\.yaml, lora\.drop"):
        crew.result(job_id)
    view = crew.producer.job(job_id)
    assert view is not None and view.attempts == 1


def test_the_trainer_says_what_it_runs(crew: Crew) -> None:
    until(
        lambda: any(w.role == "trainer" and w.state == "ready" and w.engines for w in crew.producer.workers()),
        "the trainer is seen",
    )
