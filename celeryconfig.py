"""Broker, result backend, queues, routes and limits of the one Celery app; nothing else. Values: `shared.settings`."""

from __future__ import annotations

from kombu import Queue

from shared.contracts.catalog import CATALOG, QUEUES
from shared.errors import ConfigurationInvalid
from shared.keys import BATCH, SEPARATOR
from shared.settings import settings
from shared.transport import ALIAS

_settings = settings()
if not _settings.redis_url.startswith(("redis://", "rediss://")):
    raise ConfigurationInvalid("Workers need MAEARI_REDIS_URL as redis:// or rediss://; sentinel:// is for producers.")

# The job record (shared/jobs.py) recovers and deduplicates; Celery only carries.
broker_url = _settings.redis_url.replace("rediss://", f"{ALIAS}://", 1).replace("redis://", f"{ALIAS}://", 1)
broker_use_ssl = {"ssl_cert_reqs": "required"} if _settings.redis_url.startswith("rediss://") else None
broker_transport_options = {
    "priority_steps": [0, BATCH],
    "sep": SEPARATOR,
    "health_check_interval": 2,
    "socket_keepalive": True,
    "socket_timeout": 3,
    "socket_connect_timeout": 3,
}
broker_channel_error_retry = True  # a Redis that is full or a replica for a while must not end its workers
broker_connection_retry_on_startup = True
broker_connection_max_retries = None

result_backend = _settings.redis_url
result_expires = _settings.job_ttl_s
result_backend_always_retry = True
task_ignore_result = True

task_queues = [Queue(name, exchange="", routing_key=name) for name in QUEUES]
task_routes = {spec.name: {"queue": spec.queue} for spec in CATALOG.values()}
task_default_queue = QUEUES[0]
task_create_missing_queues = False

accept_content = ["json"]
task_serializer = "json"
result_serializer = "json"

task_acks_late = True  # keeps the prefetch count; nothing is written per message
task_reject_on_worker_lost = False
worker_prefetch_multiplier = 1
worker_cancel_long_running_tasks_on_connection_loss = False
worker_enable_remote_control = True
worker_send_task_events = _settings.task_events
task_send_sent_event = False
worker_hijack_root_logger = False
worker_redirect_stdouts = False
enable_utc = True
timezone = "UTC"
