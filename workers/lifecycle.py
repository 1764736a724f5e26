"""A worker's life: load the engines, warm them up, say ready, consume, drain; end when an engine is dead.

Celery's specifics of a worker live here and in `shared.app`.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import socket
import threading
import time
from typing import Any, Literal

import redis
from celery import bootsteps, signals
from celery.worker import components

from shared import attempt, pulse
from shared.app import app
from shared.connection import is_trouble, jobs, patiently, reaching
from shared.contracts.base import EngineInfo
from shared.contracts.status import WorkerStatus
from shared.endpoint import shown_url
from shared.errors import MaeariError
from shared.protocols import Engine
from shared.runtime import engines
from shared.settings import settings

from .pool import LinePool
from .roles import Role

log = logging.getLogger("maeari.worker")

STATUS_EVERY_S = 3.0
STATUS_TTL_S = 15
SWEEP_EVERY_S = 900.0
ENGINE_DEAD_EXIT = 70
"""Exit status of a worker whose engine has died (EX_SOFTWARE); the supervisor starts it anew."""


def loaded() -> list[Engine]:
    """The engines of this process."""
    return [engine for engine in vars(engines).values() if engine is not None]


class Herald:
    """Tells operators what this worker is and does."""

    def __init__(self, role: Role, name: str) -> None:
        """Begin to speak, in the state `loading`."""
        self.role = role
        self.name = name
        self.state: Literal["loading", "ready", "draining"] = "loading"
        self.left = threading.Event()
        self._infos: tuple[EngineInfo, ...] = ()
        self._started_ms = int(time.time() * 1000)
        threading.Thread(target=self._speak, name="herald", daemon=True).start()

    def become(self, state: Literal["loading", "ready", "draining"]) -> None:
        """Enter a state and say so at once."""
        self.state = state
        self._infos = tuple(engine.info for engine in loaded())
        with contextlib.suppress(redis.RedisError):
            self._say()

    def leave(self) -> None:
        """This worker is no more."""
        self.left.set()
        with contextlib.suppress(redis.RedisError):
            jobs().client.delete(jobs().keys.worker(self.name))

    def _speak(self) -> None:
        while not self.left.is_set():
            with contextlib.suppress(redis.RedisError):
                self._say()
            self.left.wait(STATUS_EVERY_S)

    def _say(self) -> None:
        status = WorkerStatus(
            name=self.name,
            role=self.role.name,
            host=socket.gethostname(),
            pid=os.getpid(),
            state=self.state,
            started_ms=self._started_ms,
            running=pulse.keeper().running(),
            gpu=os.environ.get("CUDA_VISIBLE_DEVICES", ""),
            engines=self._infos,
        )
        jobs().client.set(jobs().keys.worker(self.name), status.model_dump_json(), ex=STATUS_TTL_S)


def _keep_house() -> None:
    """The reconciler: any number of conductors run it, no leader is needed."""
    while True:
        time.sleep(settings().reconcile_every_s)
        try:
            again, taken, ended = jobs().reconcile()
        except redis.RedisError as error:
            log.warning("could not reconcile", exc_info=not is_trouble(error) or None)
            continue
        if again or taken or ended:
            log.warning("reconciled: %d delivered again, %d taken over, %d ended", again, taken, ended)


def _sweep_blobs() -> None:
    """Audio that jobs brought and made is kept for `blob_ttl_s`, not for ever."""
    while True:
        with contextlib.suppress(MaeariError):
            if gone := attempt.store().sweep(settings().blob_ttl_s):
                log.warning("swept %d blobs", gone)
        time.sleep(SWEEP_EVERY_S)


def _watch(herald: Herald) -> None:
    """End the process when an engine is dead: what it still held is taken over by others when its leases run out."""
    while not herald.left.wait(0.5):
        for engine in loaded():
            dead = getattr(engine, "dead", None)
            if dead is not None and dead.is_set():
                log.error("engine %s is dead; the worker ends", engine.info.name)
                herald.leave()
                _wait_idle(2.0)
                os._exit(ENGINE_DEAD_EXIT)


def _drain(herald: Herald) -> None:
    """Say so; what is not finished in time goes back to its queue, where another worker takes it at once."""
    herald.become("draining")
    time.sleep(settings().drain_s)
    while True:
        pulse.keeper().stop_all("drained")
        time.sleep(0.2)


def _wait_idle(seconds: float) -> None:
    until = time.monotonic() + seconds
    while pulse.keeper().running() and time.monotonic() < until:
        time.sleep(0.05)


def _engine_step(role: Role, herald: Herald) -> type[bootsteps.StartStopStep]:
    class EngineStep(bootsteps.StartStopStep):
        """Loads before the pool starts and closes after it has drained; a failure aborts the worker's start."""

        requires = ()

        def start(self, _: Any) -> None:
            began = time.perf_counter()
            role.load(engines)
            for engine in loaded():
                engine.warm_up()
            log.warning("%s loaded its engines in %.1f s", herald.name, time.perf_counter() - began)

        def stop(self, _: Any) -> None:
            herald.leave()  # an engine that is closed now has not died
            for engine in loaded():
                engine.close()

        def terminate(self, worker: Any) -> None:
            self.stop(worker)

    return EngineStep


def _introduce() -> None:
    """The first word to Redis; where it will never be heard, a sentence for people and not a traceback."""
    try:
        with reaching():
            patiently(lambda: jobs().configure(settings()))
    except MaeariError as error:
        raise SystemExit(f"{shown_url(settings().redis_url)}: {error.message}") from error


def run(role: Role, name: str) -> None:
    """Run a worker of `role` until it is told to stop."""
    _introduce()
    herald = Herald(role, name)
    step = _engine_step(role, herald)
    app.steps["worker"].add(step)
    # Celery starts steps in the order of `requires`: engines before the pool, and so stopped after it.
    components.Pool.requires = (*(components.Pool.requires or ()), step)

    @signals.worker_ready.connect(weak=False)
    def _ready(sender: Any, **_: Any) -> None:
        if isinstance(sender.pool, LinePool):
            sender.pool.listen_for(sender)
        gc.collect()
        gc.freeze()  # the libraries and engines stay; looking through them again took some 7 % of a busy worker's time
        herald.become("ready")
        threading.Thread(target=_watch, args=(herald,), name="watch", daemon=True).start()
        if role.keeps_house:
            threading.Thread(target=_keep_house, name="reconciler", daemon=True).start()
            threading.Thread(target=_sweep_blobs, name="sweeper", daemon=True).start()

    @signals.worker_shutting_down.connect(weak=False)
    def _draining(**_: Any) -> None:
        threading.Thread(target=_drain, args=(herald,), name="drain", daemon=True).start()

    raise SystemExit(app.worker_main(_command_line(role, name)))


def _command_line(role: Role, name: str) -> list[str]:
    pool = "custom" if role.pool == "threads" else role.pool
    options = ["worker", "--hostname", name, "--queues", ",".join(role.queues), "--pool", pool]
    options += ["--concurrency", str(role.concurrency), "--loglevel", settings().log_level]
    return ["--quiet", *options, "--without-gossip", "--without-mingle"]
