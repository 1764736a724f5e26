"""Text from a language model: many requests in one batch, an adapter for each, streamed, bound to a JSON schema.

The engine is vLLM's `AsyncLLM`. Its core computes in a child process; this process speaks to it from one event loop on
a thread that lives as long as the process. Callers' threads tokenize, check and then sleep on a queue: one watcher on
the loop looks after everybody's cancellations and time limits, and a new text wakes only the caller it belongs to.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import multiprocessing
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from shared.contracts.base import EngineInfo
from shared.contracts.llm import GenerateRequest, Generation, Message, Sampling, Usage
from shared.errors import (
    AttemptTimeout,
    ConfigurationInvalid,
    EngineDead,
    EngineFailed,
    InvalidRequest,
    JobCancelled,
    MaeariError,
    OutOfMemory,
    UnknownModel,
)
from shared.protocols import OnText, Stop
from shared.settings import Settings, settings
from shared.versions import Registry, fingerprint

from . import generator_plugins, generator_setup
from .adapters import Adapter, BaseShape, Library, Shelf
from .chat import ChatEncoder
from .grammar import SchemaChecker

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.v1.engine.async_llm import AsyncLLM

log = logging.getLogger("maeari.generator")
T = TypeVar("T")

WATCH_EVERY_S = 0.05
"""Seconds between two looks at the callers' `stop` and time limits, while anything runs."""
MIN_ROOM = 16
"""Tokens of reply for which there must be room behind the prompt (or `max_tokens`, if that is fewer)."""
SHUTDOWN_S = 0.5
"""Seconds that the engine core has to end by itself; nothing runs in it then, and tidying up takes it far longer."""


@dataclass(frozen=True)
class _Outcome:
    text: str
    reason: str | None
    tokens: int
    first_at: float


@dataclass(eq=False)
class _Run:
    """One generation under way."""

    id: str
    prompt: list[int]
    params: SamplingParams
    tenant: str
    adapter: Adapter | None
    stop: Stop
    until: float
    streamed: bool
    inbox: queue.SimpleQueue[str | _Outcome | Exception] = field(default_factory=queue.SimpleQueue)
    """New text for the caller, and at last the outcome or an error."""
    task: asyncio.Task[_Outcome] | None = None
    ended: MaeariError | None = None

    def end(self, error: MaeariError) -> None:
        """Stop it on the event loop; its caller gets `error`."""
        if self.ended is None and self.task is not None:
            self.ended = error
            self.task.cancel()


class BatchingGenerator:
    """The generator of a worker: any number of threads call `generate`, the engine batches what runs at a time."""

    def __init__(self, config: Settings | None = None) -> None:
        """Load the model; takes from seconds to minutes. Raises `ConfigurationInvalid`, `EngineFailed`."""
        self._config = config or settings()
        self._model = self._config.model(self._config.llm_model)
        self._name = Path(self._config.llm_model).name
        generator_setup.prepare_environment(self._config, self._model)
        model_config = self._load_tokenizer()
        base = Path(self._model)
        self._library = Library(
            Registry.of(self._config),
            BaseShape.of(model_config),
            self._config.llm_max_lora_rank,
            fingerprint(base) if base.is_dir() else "",
        )
        self._dead = threading.Event()
        self._closing = False
        self._running: set[_Run] = set()
        self._starting: deque[_Run] = deque()
        """Handed over to the event loop."""
        self._rung = False
        """The loop has been woken for them."""
        self._watcher: asyncio.Task[None] | None = None
        self._numbers = itertools.count()
        self._loop = asyncio.new_event_loop()
        # The engine core ends with the thread that spawned it, so this one is left running as long as the process.
        self._thread = threading.Thread(target=self._loop.run_forever, name="generator", daemon=True)
        self._thread.start()
        self._boot(model_config)

    @property
    def info(self) -> EngineInfo:
        """Name, served model, version of vLLM, device."""
        return self._info

    @property
    def dead(self) -> threading.Event:
        """Set as soon as the engine core has ended by itself; nothing can be generated any more."""
        return self._dead

    @property
    def running(self) -> int:
        """Generations under way."""
        return len(self._running)

    def generate(
        self, request: GenerateRequest, *, request_id: str, stop: Stop, timeout_s: float, on_text: OnText | None = None
    ) -> Generation:
        """The reply to `request.messages`, without `request.prefix`.

        `on_text` is called on the calling thread. `timeout_s` counts from this call and includes waiting for a place in
        the batch. Raises `InvalidRequest` and its kinds, `InvalidAdapter`, `UnsatisfiedSchema`, `JobCancelled`,
        `AttemptTimeout`, `EngineFailed`, `EngineDead`, `OutOfMemory`.
        """
        begun = time.monotonic()
        self._check(request, stop)
        adapter = self._library.find(request.adapter) if request.adapter else None
        prompt = self._chat.encode(request.messages, request.prefix)
        run = _Run(
            id=f"{request_id}.{next(self._numbers)}",
            prompt=prompt,
            params=self._params(request, self._room(len(prompt), request.sampling), streamed=on_text is not None),
            tenant=request.tenant,
            adapter=adapter,
            stop=stop,
            until=begun + timeout_s,
            streamed=on_text is not None,
        )
        outcome = self._follow(run, on_text)
        reason = _finish_reason(outcome.reason)
        if request.json_schema is not None:
            self._schemas.verify(request.json_schema, outcome.text, complete=reason == "stop")
        return Generation(
            text=outcome.text,
            finish_reason=reason,
            usage=Usage(prompt_tokens=len(prompt), completion_tokens=outcome.tokens),
            adapter=request.adapter,
            adapter_version=adapter.label if adapter else None,
            ttft_ms=(outcome.first_at - begun) * 1000,
            engine_ms=(time.monotonic() - begun) * 1000,
            engine=self._info,
        )

    def warm_up(self) -> None:
        """Make sure that the plugins are in place, then generate once plainly, with a schema and with an adapter."""
        reports = self._call(self._engine.collective_rpc("maeari_plugins"))
        missing = [sorted(generator_plugins.EXPECTED - set(report)) for report in reports]
        if not reports or any(missing):
            raise ConfigurationInvalid(f"The engine runs without its plugins: {missing}.")
        request = GenerateRequest(
            messages=(Message(role="user", content="안녕?"),), sampling=Sampling(temperature=0.0, max_tokens=8)
        )
        self._try(request)
        self._try(request.model_copy(update={"json_schema": {"type": "boolean"}}))
        for name in self._library.names()[:1]:
            try:
                self._try(request.model_copy(update={"adapter": name}))
            except MaeariError as error:  # the jobs that ask for it will say so; the others are served
                log.warning("adapter %s is not usable: %s", name, error)

    def close(self) -> None:
        """End what runs and the engine core. May be called twice."""
        if self._closing:
            return
        self._closing = True
        self._call(self._shut_down())
        # vLLM leaves this to the garbage collector. On a thread: it would wait for a socket that is still open.
        context = self._engine.engine_core.resources.ctx
        ending = threading.Thread(target=context.term, daemon=True)
        ending.start()
        ending.join(SHUTDOWN_S)

    # --- the caller's thread ---

    def _check(self, request: GenerateRequest, stop: Stop) -> None:
        if self._dead.is_set() or self._closing:
            raise EngineDead
        if stop.is_set():
            raise JobCancelled
        if request.model not in {None, self._name}:
            raise UnknownModel(f"'{request.model}' is not served here; '{self._name}' is.", field="model")
        if request.json_schema is not None:
            if request.prefix:
                raise InvalidRequest("prefix and json_schema exclude each other.", field="prefix")
            self._schemas.check(request.json_schema)

    def _room(self, prompt: int, sampling: Sampling) -> int:
        limit = self._config.llm_max_model_len
        room = limit - prompt
        if room < min(sampling.max_tokens, MIN_ROOM):
            raise InvalidRequest(
                f"The conversation has {prompt} tokens; with its reply it may have {limit}.", field="messages"
            )
        return min(room, sampling.max_tokens)

    def _params(self, request: GenerateRequest, max_tokens: int, *, streamed: bool) -> SamplingParams:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        sampling = request.sampling
        schema = request.json_schema
        return SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            repetition_penalty=sampling.repetition_penalty,
            max_tokens=max_tokens,
            min_tokens=min(sampling.min_tokens, max_tokens),
            stop=list(sampling.stop),
            seed=sampling.seed,
            output_kind=RequestOutputKind.DELTA,
            stream_interval=None if streamed else max_tokens,  # the first token, whose time is told, then all others
            structured_outputs=None if schema is None else StructuredOutputsParams(json=schema),
            skip_clone=True,  # they are this run's own
        )

    def _follow(self, run: _Run, on_text: OnText | None) -> _Outcome:
        """Start the run and hand its text on until it ends; whatever happens here, it does not stay behind."""
        self._starting.append(run)
        if not self._rung:  # callers of a burst wake the loop once
            self._rung = True
            self._loop.call_soon_threadsafe(self._start_all)
        try:
            return _receive(run, on_text)
        except BaseException:
            self._loop.call_soon_threadsafe(run.end, JobCancelled())
            raise

    def _try(self, request: GenerateRequest) -> None:
        with contextlib.suppress(InvalidRequest):  # a template may refuse even a greeting
            self.generate(request, request_id="warm-up", stop=Stop(), timeout_s=300.0)

    def _call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    # --- the event loop ---

    def _start_all(self) -> None:
        self._rung = False  # first: who comes from now on wakes the loop again
        while self._starting:
            self._start(self._starting.popleft())

    def _start(self, run: _Run) -> None:
        if self._closing:
            run.inbox.put(EngineDead())
            return
        run.task = self._loop.create_task(self._generate(run))
        run.task.add_done_callback(partial(self._finish, run))
        self._running.add(run)
        if self._watcher is None or self._watcher.done():
            self._watcher = self._loop.create_task(self._watch())

    async def _generate(self, run: _Run) -> _Outcome:
        parts: list[str] = []
        tokens, first_at, reason = 0, 0.0, None
        async with self._shelf.lend(run.adapter) as lora:
            prompt = self._prompt(run.prompt, cache_salt=run.tenant)
            outputs = self._engine.generate(prompt, run.params, run.id, lora_request=lora)
            try:
                async for output in outputs:
                    completion = output.outputs[0]
                    first_at = first_at or time.monotonic()
                    tokens += len(completion.token_ids)
                    reason = completion.finish_reason
                    parts.append(completion.text)
                    if run.streamed and completion.text:
                        run.inbox.put(completion.text)
            except asyncio.CancelledError:
                # Cancelled while being handed over, a request is in the engine, and AsyncLLM did not abort it.
                with contextlib.suppress(Exception):
                    await self._engine.abort(run.id)
                raise
        return _Outcome("".join(parts), reason, tokens, first_at)

    def _finish(self, run: _Run, task: asyncio.Task[_Outcome]) -> None:
        self._running.discard(run)
        if task.cancelled():
            run.inbox.put(run.ended or EngineDead())
        elif (error := task.exception()) is not None:
            run.inbox.put(run.ended or self._translated(error))
        else:
            run.inbox.put(task.result())

    async def _watch(self) -> None:
        while self._running:
            now = time.monotonic()
            for run in tuple(self._running):
                if run.stop.is_set():
                    run.end(JobCancelled())
                elif now > run.until:
                    run.end(AttemptTimeout())
            await asyncio.sleep(WATCH_EVERY_S)

    def _translated(self, error: BaseException) -> MaeariError:
        from vllm.exceptions import VLLMClientError
        from vllm.v1.engine.exceptions import EngineDeadError

        chain = list(_causes(error))
        if isinstance(error, MaeariError):
            return error
        if any(isinstance(cause, EngineDeadError) for cause in chain):
            self._dead.set()
            return EngineDead()
        if any(isinstance(cause, MemoryError) or "out of memory" in str(cause).lower() for cause in chain):
            return OutOfMemory()
        if isinstance(error, VLLMClientError | ValueError):
            return InvalidRequest(str(error))
        log.error("generation failed: %s", " <- ".join(type(cause).__name__ for cause in chain))
        return EngineFailed(f"({type(chain[-1]).__name__})")

    def _end_all(self) -> None:
        for run in tuple(self._running):
            run.end(EngineDead())

    # --- birth and death ---

    def _load_tokenizer(self) -> Any:
        """Everything that needs the tokenizer; gives the model's configuration."""
        from transformers import AutoConfig, AutoTokenizer

        try:
            model_config = AutoConfig.from_pretrained(self._model)
            tokenizer = AutoTokenizer.from_pretrained(self._model)
        except (OSError, ValueError) as error:
            raise ConfigurationInvalid(f"No language model can be read from '{self._model}': {error}") from error
        self._chat = ChatEncoder(tokenizer)
        self._schemas = SchemaChecker(tokenizer)
        return model_config

    def _boot(self, model_config: Any) -> None:
        import vllm
        from vllm.inputs import tokens_input

        self._prompt: Callable[..., Any] = tokens_input
        before = multiprocessing.active_children()
        arguments = generator_setup.engine_arguments(self._config, self._model, model_config)
        try:
            self._engine: AsyncLLM = self._call(_spawn(arguments))
        except Exception as error:
            raise EngineFailed(f"It did not start: {error}") from error
        self._shelf = Shelf(self._engine, generator_setup.held_adapters(self._config), _handle)
        self._info = EngineInfo(
            name="vllm",
            model=self._name,
            version=vllm.__version__,
            device="cpu" if generator_setup.on_cpu() else "cuda",
        )
        core = [child for child in multiprocessing.active_children() if child not in before]
        threading.Thread(target=self._await_death, args=(core,), name="generator-death", daemon=True).start()

    def _await_death(self, core: list[BaseProcess]) -> None:
        """Costs nothing: the kernel wakes it when a process of the engine ends."""
        wait([process.sentinel for process in core])
        if not self._closing:
            self._dead.set()
            self._loop.call_soon_threadsafe(self._end_all)

    async def _shut_down(self) -> None:
        self._end_all()
        if tasks := [run.task for run in self._running if run.task is not None]:
            await asyncio.wait(tasks)
        self._engine.shutdown(timeout=SHUTDOWN_S)


def _handle(adapter: Adapter) -> Any:
    """The engine's name for an adapter. With the version in it, no cache of the engine mixes two contents."""
    from vllm.lora.request import LoRARequest

    return LoRARequest(adapter.version, adapter.number, str(adapter.folder))


def _receive(run: _Run, on_text: OnText | None) -> _Outcome:
    """Wait for the outcome; what has gathered in the meantime goes to `on_text` in one piece."""
    while True:
        texts: list[str] = []
        item: str | _Outcome | Exception | None = run.inbox.get()
        while isinstance(item, str):
            texts.append(item)
            item = None if run.inbox.empty() else run.inbox.get_nowait()
        if texts and on_text is not None:
            on_text("".join(texts))
        if isinstance(item, Exception):
            raise item
        if item is not None:
            return item


def _finish_reason(reason: str | None) -> Literal["stop", "length"]:
    """An aborted text is a failure, never a short reply."""
    if reason == "stop":
        return "stop"
    if reason == "length":
        return "length"
    raise EngineFailed(f"It broke the text off ({reason}).")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


async def _spawn(arguments: dict[str, Any]) -> AsyncLLM:
    """On the loop, because the loop's thread must be the one that spawns."""
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    return AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments))
