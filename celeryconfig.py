"""Broker, result backend, queues, routes and limits of the one Celery app; nothing else. Values: `shared.settings`."""

from __future__ import annotations

from kombu import Queue

from shared.contracts.catalog import CATALOG, QUEUES
from shared.endpoint import Endpoint
from shared.errors import ConfigurationInvalid
from shared.keys import BATCH, SEPARATOR
from shared.settings import settings
from shared.transport import ALIAS, SENTINEL_ALIAS

_settings = settings()
_redis = Endpoint.of(_settings.redis_url, _settings)
if _settings.redis_url.startswith("unix://"):
    raise ConfigurationInvalid("Workers need a MAEARI_REDIS_URL with a host.", field="redis_url")

# The job record (shared/jobs.py) recovers and deduplicates; Celery only carries.
broker_url = _redis.broker(SENTINEL_ALIAS if _redis.watched else ALIAS)
broker_use_ssl = dict(_redis.tls) or None
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

result_backend = None  # the record writes what Celery clients read as a result
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
