"""One error tree. A class's docstring is its message; `code` and `retryable` decide what happens next.

Every error that reaches a caller travels as `shared.contracts.base.Fault`: the code, a sentence for people, the stage
and, for bad input, the field.
"""

from __future__ import annotations

from typing import ClassVar


class MaeariError(Exception):
    """Something went wrong inside the cluster."""

    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False
    rest_ms: ClassVar[int] = 500
    """At most so many milliseconds before the second attempt, twice as many before each further one."""

    def __init__(self, detail: str = "", *, field: str | None = None) -> None:
        """`detail` is added to the class's message; `field` names the offending input, e.g. `sampling.top_p`."""
        self.detail = detail
        self.field = field
        super().__init__(self.message)

    @property
    def message(self) -> str:
        """The sentence shown to people."""
        summary = (type(self).__doc__ or "").strip().splitlines()[0]
        return f"{summary} {self.detail}".strip()


# --- the caller's fault: never retried -------------------------------------------------------------------------------


class InvalidRequest(MaeariError):
    """The request does not match its contract."""

    code = "invalid_request"


class InvalidMessage(InvalidRequest):
    """The message cannot be read."""

    code = "invalid_message"


class BadSignature(InvalidMessage):
    """The message is not signed by a key of this cluster."""

    code = "bad_signature"


class UnknownTask(InvalidRequest):
    """There is no such task."""

    code = "unknown_task"


class UnknownPack(InvalidRequest):
    """There is no such pack."""

    code = "unknown_pack"


class UnknownVoice(InvalidRequest):
    """There is no such voice."""

    code = "unknown_voice"


class UnknownAdapter(InvalidRequest):
    """There is no such adapter."""

    code = "unknown_adapter"


class UnknownModel(InvalidRequest):
    """There is no such model."""

    code = "unknown_model"


class UnknownTenant(InvalidRequest):
    """There is no such tenant."""

    code = "unknown_tenant"


class UnknownCollection(InvalidRequest):
    """There is no such collection."""

    code = "unknown_collection"


class InvalidBlob(InvalidRequest):
    """The blob reference is not acceptable."""

    code = "invalid_blob"


class BlobMissing(InvalidRequest):
    """The blob does not exist."""

    code = "blob_missing"


class InvalidAudio(InvalidRequest):
    """The audio cannot be used."""

    code = "invalid_audio"


class AudioTooLong(InvalidAudio):
    """The audio is longer than the limit."""

    code = "audio_too_long"


class NoSpeech(InvalidAudio):
    """There is no speech in the audio."""

    code = "no_speech"


class TextTooLong(InvalidRequest):
    """The text is longer than the limit."""

    code = "text_too_long"


class InvalidSchema(InvalidRequest):
    """The JSON schema cannot be used to constrain the output."""

    code = "invalid_schema"


class UnsatisfiedSchema(MaeariError):
    """The model could not complete the JSON schema within the token limit."""

    code = "unsatisfied_schema"


class InvalidAdapter(MaeariError):
    """The adapter cannot be loaded onto the base model."""

    code = "invalid_adapter"


class UnknownRecipe(InvalidRequest):
    """There is no such recipe."""

    code = "unknown_recipe"


class TrainingFailed(MaeariError):
    """The training failed."""

    code = "training_failed"


class PackInvalid(MaeariError):
    """The pack does not match its contract."""

    code = "pack_invalid"


# --- the end of a job by decision ------------------------------------------------------------------------------------


class JobCancelled(MaeariError):
    """The job was cancelled."""

    code = "cancelled"


class DeadlineExceeded(MaeariError):
    """The job's deadline has passed."""

    code = "deadline_exceeded"


class CallerGone(MaeariError):
    """The caller has gone away."""

    code = "caller_gone"


class LeaseLost(MaeariError):
    """Another worker has taken over this attempt."""

    code = "lease_lost"


class AttemptsExhausted(MaeariError):
    """The job failed on every attempt and lies in the dead letters."""

    code = "attempts_exhausted"


class QueueFull(MaeariError):
    """The queue is full; try again later."""

    code = "queue_full"
    retryable = True

    def __init__(self, detail: str = "", *, retry_after_s: float = 1.0) -> None:
        """`retry_after_s`: an estimate, in seconds, of when there will be room."""
        self.retry_after_s = retry_after_s
        self.taken_on: list[str] = []
        """Of jobs handed in together: the ids of those for which there was room."""
        super().__init__(detail)


class JobNotFound(MaeariError):
    """There is no such job, or it has expired."""

    code = "job_not_found"


# --- the cluster's trouble: retried within the deadline --------------------------------------------------------------


class EngineFailed(MaeariError):
    """The engine failed on this job."""

    code = "engine_failed"
    retryable = True


class EngineDead(EngineFailed):
    """The engine has died; its worker restarts."""

    code = "engine_dead"


class OutOfMemory(EngineFailed):
    """The engine ran out of memory on this job."""

    code = "out_of_memory"


class AttemptTimeout(MaeariError):
    """The attempt took too long."""

    code = "timeout"
    retryable = True


class StoreUnavailable(MaeariError):
    """A store that the job needs is not reachable."""

    code = "store_unavailable"
    retryable = True
    rest_ms = 6_000  # a server that was killed needs seconds to be there again


class BrokerUnavailable(MaeariError):
    """Redis cannot be used now."""

    code = "broker_unavailable"
    retryable = True


class AccessDenied(MaeariError):
    """Redis does not let this user do that."""

    code = "access_denied"


class ConfigurationInvalid(MaeariError):
    """The configuration is not usable."""

    code = "configuration_invalid"


def _tree(cls: type[MaeariError]) -> dict[str, type[MaeariError]]:
    found = {cls.code: cls}
    for child in cls.__subclasses__():
        found = _tree(child) | found  # a class elsewhere that has no code of its own does not take its parent's
    return found


def by_code() -> dict[str, type[MaeariError]]:
    """Every error class of this module under its code, for readers that turn a fault back into an exception."""
    return {code: kind for code, kind in _tree(MaeariError).items() if kind.__module__ == __name__}
