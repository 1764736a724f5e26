"""Configuration in one place: the only reader of the environment (prefix `MAEARI_`, optional `.env` file).

A profile is nothing but a set of values, see `deploy/profiles/`; there is no branch on it in the code.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

ROOT = Path(__file__).resolve().parent.parent
"""The checkout (or installation) that this code runs from."""


class Settings(BaseSettings):
    """Every setting with its unit; the environment variable is `MAEARI_` plus the name in capitals."""

    model_config = SettingsConfigDict(
        env_prefix="MAEARI_",
        env_file=(ROOT / ".env", ".env"),
        extra="ignore",
        frozen=True,
        use_attribute_docstrings=True,
    )

    home: Path = ROOT / ".maeari"
    """Folder of the embedded services' data, blobs, logs and run files."""
    profile: Literal["laptop", "gpu"] = "laptop"
    """Name of the profile that the other values come from; reported, never branched on."""

    # --- Redis ---
    redis_url: str = "redis://127.0.0.1:46379/0"
    """Broker, job records, streams and results: `redis://` or `sentinel://host:26379,host:26379/0?service=maeari`, for
    TLS `rediss://` or `sentinels://`."""
    redis_ca_file: Path | None = None
    """Certificates (PEM) of the authorities whose Redis is trusted over TLS; empty: those of this machine."""
    redis_cert_file: Path | None = None
    """Certificate (PEM) that Redis is shown over TLS, where it asks for one."""
    redis_key_file: Path | None = None
    """Private key (PEM) of that certificate."""
    redis_embedded: bool = True
    """`maeari up` starts its own Redis when the URL points to this machine and nothing listens there."""
    key_prefix: str = "maeari:"
    """In front of every key but the queues."""
    signing_keys: SecretStr = SecretStr("")
    """Secrets of 32 characters or more, comma-separated, or `file:/path` with one a line: the first one signs messages,
    all of them verify. Empty: messages are not signed."""

    # --- jobs ---
    queue_limit: int = 10_000
    """Messages that one queue holds, waiting or parked, before a producer is refused."""
    tenant_limit: int = 5_000
    """Messages of one tenant that one queue holds; keeps one tenant from filling it."""
    tenant_share: int = 1
    """Messages of one tenant that wait in a queue's shared list at a time; its others are parked."""
    lease_s: float = 6.0
    """Seconds a claim lives without a heartbeat; heartbeats come at a third of it."""
    redeliver_after_s: float = 5.0
    """Seconds after which a message that left its queue without being claimed is delivered again."""
    reconcile_every_s: float = 1.0
    """Seconds between two passes of the reconciler."""
    job_ttl_s: int = 86_400
    """Seconds that a finished job's record and result are kept."""
    events_ttl_s: int = 3_600
    """Seconds that a finished job's event stream is kept."""
    open_ttl_s: int = 604_800
    """Seconds after which an unfinished job is forgotten; far beyond any deadline."""
    default_deadline_s: float = 900.0
    """Deadline of a job whose producer sets none."""
    presence_ttl_s: int = 15
    """Seconds that an interactive caller's presence key lives between two refreshes."""
    dead_limit: int = 10_000
    """Entries that the dead-letter list keeps; the oldest go first."""

    # --- stores ---
    blob_url: str = ""
    """`file:///path` or `s3://bucket/prefix`; empty: the folder `blobs` under `home`."""
    blob_max_bytes: int = 64 * 1024 * 1024
    """Largest blob that a job may name."""
    blob_ttl_s: int = 86_400
    """Seconds that a job's audio is kept in the blob store."""
    chroma_host: str = "127.0.0.1"
    """Host of the Chroma server."""
    chroma_port: int = 48_000
    """Port of the Chroma server."""
    session_turns: int = 20
    """Turns that the short-term memory keeps."""
    session_ttl_s: int = 1_800
    """Seconds that the short-term memory lives after the last turn."""

    # --- tenants and packs ---
    tenants: str = "*"
    """Comma-separated tenants that this cluster serves; `*` for any well-formed name."""
    pack_paths: tuple[Path, ...] = ()
    """Folders with packs beside the built-in ones (a JSON list)."""

    # --- engines ---
    models_path: Path = ROOT / "deploy" / "models" / "laptop"
    """Folder of the laptop models; relative model names resolve against it."""
    llm_model: str = "language"
    """Base language model: a folder under `models_path`, an absolute folder or a hub name."""
    llm_adapters_path: Path | None = None
    """Folder with one LoRA adapter per sub-folder; empty: `adapters` under `models_path`."""
    llm_dtype: str = "float32"
    """Weights' type, as vLLM names it. On a CPU float32 is several times faster than bfloat16."""
    llm_max_model_len: int = 1024
    """Tokens of prompt and reply together."""
    llm_max_num_seqs: int = 64
    """Sequences that one engine batches."""
    llm_max_loras: int = 4
    """Adapters in one batch."""
    llm_max_lora_rank: int = 16
    """Largest adapter rank that is accepted."""
    llm_quantization: str | None = None
    """As vLLM names it, e.g. `awq`."""
    llm_gpu_memory: float = 0.85
    """Share of the GPU's memory for weights and KV cache."""
    llm_kv_cache_gib: int = 1
    """KV cache on a CPU, in GiB."""
    engines: Literal["real", "scripted"] = "real"
    """`scripted`: fakes that only keep time, for tests of timing and faults; never for users."""
    scripted_token_ms: float = 15.0
    """Milliseconds that a scripted token takes."""
    scripted_sentence_ms: float = 400.0
    """Milliseconds that a scripted sentence of 20 characters of audio takes."""
    scripted_reply: str = "안녕하세요. 오늘은 날씨가 좋네요. 같이 산책을 갈까요? 저는 준비가 됐어요. 금방 나갈게요!"
    """What the scripted generator says."""
    scripted_crash_on: str = ""
    """Text in a question at which the scripted generator kills its process; empty: none."""
    scripted_dead_on: str = ""
    """Text in a question at which the scripted generator is dead; empty: none."""
    llm_flush_ms: int = 30
    """Milliseconds over which streamed tokens are joined into one event."""
    stt_model: str = "speech"
    """Whisper model in CTranslate2 form: folder under `models_path`, absolute folder or hub name."""
    stt_device: str = "cpu"
    """`cpu` or `cuda`."""
    stt_compute_type: str = "int8"
    """As CTranslate2 names it."""
    stt_batch: int = 8
    """Utterances that are decoded together."""
    audio_max_s: float = 300.0
    """Seconds of audio that one job may bring."""
    voice_engine: Literal["formant", "neural"] = "formant"
    """Synthesizer when the request names none: `formant` (espeak-ng) or `neural` (XTTS v2, non-commercial weights)."""
    tts_model: str = "voice"
    """XTTS v2 checkpoint folder (config.json, model.pth, vocab.json)."""
    tts_device: str = "cpu"
    """`cpu` or `cuda`."""
    tts_preload: bool = True
    """Load the neural synthesizer at start rather than at its first use."""
    tts_max_chars: int = 95
    """Characters of one synthesized sentence (XTTS warns above 95 in Korean)."""
    text_max_chars: int = 20_000
    """Characters of text that one job may bring."""
    embed_model: str = "embedding"
    """sentence-transformers model: folder under `models_path`, absolute folder or hub name."""
    embed_device: str = "cpu"
    """`cpu` or `cuda`."""
    embed_batch: int = 64
    """Texts that are embedded together; a model that is a table of vectors takes 256."""

    # --- training ---
    adapter_versions_path: Path | None = None
    """Folder of trained adapters' versions, which llm workers and trainers share; empty: `versions` under `home`."""
    recipe_paths: tuple[Path, ...] = ()
    """Folders with recipes that a job may name, beside the shipped ones (a JSON list)."""
    data_paths: tuple[Path, ...] = ()
    """Folders with data that a job's recipe may read, beside those of recipes (a JSON list)."""

    # --- operations ---
    log_level: str = "WARNING"
    """Level of the workers' logs."""
    task_events: bool = True
    """Workers send Celery's events, which Flower shows."""
    flower_port: int = 45_555
    """Port of Flower."""
    flower_user: str = "maeari"
    """User of Flower's basic authentication."""
    flower_password: str = ""
    """Its password; empty: one is made at the first `maeari up` and kept in the home folder."""
    drain_s: float = Field(default=60.0, gt=0)
    """Seconds that a worker has to finish what it runs after SIGTERM."""

    def model(self, name: str) -> str:
        """`name` as a local folder where there is one under `models_path`, else unchanged (a path or a hub name)."""
        local = self.models_path / name
        return str(local) if local.is_dir() else name

    def serves(self, tenant: str) -> bool:
        """Whether this cluster works for `tenant`."""
        return self.tenants == "*" or tenant in {name.strip() for name in self.tenants.split(",")}

    @property
    def adapters_path(self) -> Path:
        """Folder of the LoRA adapters."""
        return self.llm_adapters_path or self.models_path / "adapters"

    @property
    def versions_path(self) -> Path:
        """Folder of trained adapters' versions."""
        return self.adapter_versions_path or self.home / "versions"

    @property
    def blobs(self) -> str:
        """URL of the blob store."""
        return self.blob_url or (self.home / "blobs").as_uri()


@cache
def settings() -> Settings:
    """The settings of this process, read once."""
    return Settings()
