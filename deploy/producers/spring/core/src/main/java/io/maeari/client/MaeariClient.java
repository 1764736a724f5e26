package io.maeari.client;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.maeari.client.error.BrokerUnavailableException;
import io.maeari.client.error.Fault;
import io.maeari.client.error.InvalidRequestException;
import io.maeari.client.error.JobEndedException;
import io.maeari.client.error.JobNotFoundException;
import io.maeari.client.error.MaeariException;
import io.maeari.client.error.QueueFullException;
import io.maeari.client.event.Event;
import io.maeari.client.request.MaeariRequest;
import java.time.Duration;
import java.util.List;
import java.util.Objects;
import java.util.UUID;
import java.util.function.Supplier;
import java.util.regex.Pattern;

/**
 * The way into a Maeari cluster. One per application is enough: it may be used from many threads, and follows all its
 * jobs over one connection.
 *
 * <pre>{@code
 * Job<TurnResult> job = client.submit(TurnRequest.text("artist", "fan-7", "좋아하는 색이 뭐야?"));
 * client.follow(job.id(), 0, listener);
 * TurnResult result = job.result(Duration.ofMinutes(1));
 * }</pre>
 *
 * <p>Every call rides out a Redis that does not answer for {@link Builder#patience}, then throws
 * {@link BrokerUnavailableException}.
 */
public final class MaeariClient implements AutoCloseable {
    private static final Pattern ID = Pattern.compile("[A-Za-z0-9][A-Za-z0-9._:-]{0,127}");
    private static final Duration PRESENCE_TTL = Duration.ofSeconds(15);
    /** What the contract says of signed jobs: their deadline when the caller names none, and the farthest one. */
    private static final Duration SIGNED_DEADLINE = Duration.ofMinutes(15);

    private static final Duration SIGNED_HORIZON = Duration.ofDays(1);
    private static final long FIRST_PAUSE_MS = 20;
    private static final long LONGEST_PAUSE_MS = 1_000;

    private final RedisPort redis;
    private final String prefix;
    private final String application;
    private final String tenant;
    private final MessageSigner signer;
    private final Duration patience;
    private final ClientObserver observer;
    private final StreamReader reader;

    private MaeariClient(Builder builder) {
        this.redis = builder.redis;
        this.prefix = builder.prefix;
        this.application = builder.application;
        this.tenant = builder.tenant;
        this.signer = builder.signer;
        this.patience = builder.patience;
        this.observer = builder.observer;
        this.reader = new StreamReader(redis, prefix, builder.block, observer);
    }

    /**
     * Begin.
     *
     * @param redis how Redis is reached
     * @return with defaults for everything else
     */
    public static Builder builder(RedisPort redis) {
        return new Builder(redis);
    }

    /**
     * Hand in an interactive job.
     *
     * @param request what to do
     * @param <R> what it answers
     * @return the job, queued
     * @throws QueueFullException when there is no room; {@code retryAfter()} says when to try again
     * @throws BrokerUnavailableException when Redis did not answer; {@code jobId()} is to be used again then
     */
    public <R> Job<R> submit(MaeariRequest<R> request) {
        return submit(request, SubmitOptions.DEFAULTS);
    }

    /**
     * Hand in a job.
     *
     * @param request what to do
     * @param options how
     * @param <R> what it answers
     * @return the job, queued
     * @throws InvalidRequestException when the id is not acceptable
     * @throws QueueFullException when there is no room; {@code retryAfter()} says when to try again
     * @throws BrokerUnavailableException when Redis did not answer; {@code jobId()} is to be used again then
     */
    public <R> Job<R> submit(MaeariRequest<R> request, SubmitOptions options) {
        String id = chosenId(options.jobId());
        try {
            boolean created = enqueue(id, request, options);
            observer.submitted(request.task(), created);
            return new Job<>(this, id, request.resultType(), created);
        } catch (MaeariException error) {
            observer.refused(request.task(), error.code());
            throw error;
        }
    }

    private boolean enqueue(String id, MaeariRequest<?> request, SubmitOptions options) {
        Catalog.Entry entry = Catalog.entry(request.task());
        ObjectNode payload = payload(request);
        long within = within(options.deadline());
        long deadlineMs = System.currentTimeMillis() + within;
        List<String> arguments = List.of(
                prefix,
                id,
                request.task(),
                entry.queue(),
                Integer.toString(options.priority().level()),
                payload.path("tenant").asText("default"),
                Long.toString(within),
                options.presence() ? "1" : "0",
                Integer.toString(entry.maxAttempts()),
                Envelope.build(request.task(), id, payload, options.priority(), deadlineMs, signer));
        List<String> answer = patiently(id, () -> Script.ENQUEUE.call(redis, arguments));
        return switch (answer.get(0)) {
            case "ok" -> true;
            case "dup" -> false;
            case "full" -> throw new QueueFullException(id, Duration.ofMillis(Long.parseLong(answer.get(1))));
            default -> throw new InvalidRequestException(
                    "invalid_message", "The cluster answered " + answer, "message");
        };
    }

    /** Milliseconds from now, 0 for the cluster's default; a signed job always says its own. */
    private long within(Duration deadline) {
        if (deadline == null) {
            return signer == null ? 0 : SIGNED_DEADLINE.toMillis();
        }
        if (signer != null && deadline.compareTo(SIGNED_HORIZON) > 0) {
            throw new InvalidRequestException(
                    "invalid_request", "A signed job's deadline is at most " + SIGNED_HORIZON + " ahead.", "deadline");
        }
        return Math.max(1, deadline.toMillis());
    }

    private ObjectNode payload(MaeariRequest<?> request) {
        JsonNode tree = Json.MAPPER.valueToTree(request);
        if (!(tree instanceof ObjectNode payload)) {
            throw new InvalidRequestException("invalid_request", "A request must be an object.", "(request)");
        }
        if (tenant != null && !payload.has("tenant")) {
            payload.put("tenant", tenant);
        }
        return payload;
    }

    private String chosenId(String wanted) {
        String id = wanted == null ? application + "." + UUID.randomUUID() : wanted;
        if (!ID.matcher(id).matches()) {
            throw new InvalidRequestException(
                    "invalid_request", "A job id has 1 to 128 letters, digits, '.', '_', ':' or '-'.", "job_id");
        }
        return id;
    }

    /**
     * A job that was handed in before, by this or another instance.
     *
     * @param id of the job
     * @param resultType a record of {@code io.maeari.client.result}
     * @param <R> what it answers
     * @return the job; nothing is asked of Redis yet
     */
    public <R> Job<R> job(String id, Class<R> resultType) {
        return new Job<>(this, chosenId(Objects.requireNonNull(id)), resultType, false);
    }

    /**
     * Hear a job's events. Lost connections are mended behind the scenes: nothing is lost and nothing comes twice.
     *
     * @param jobId the job
     * @param after the number of the last event that is known, 0 for all
     * @param listener hears them on the reader's thread
     * @return to be closed when the listener is left early
     */
    public Subscription follow(String jobId, long after, JobListener listener) {
        return reader.follow(jobId, after, listener);
    }

    /**
     * Wait for a job's events.
     *
     * @param jobId the job
     * @param after the number of the last event that is known, 0 for all
     * @param timeout how long to wait in all
     * @return to be closed
     */
    public EventStream follow(String jobId, long after, Duration timeout) {
        return new EventStream(reader, jobId, after, timeout);
    }

    /**
     * A job's result, waited for.
     *
     * @param jobId the job
     * @param type a record of {@code io.maeari.client.result}
     * @param timeout how long to wait
     * @param <R> what it answers
     * @return the result
     * @throws JobEndedException when it ended without one
     * @throws io.maeari.client.error.NotEndedException when the time is over
     * @throws JobNotFoundException when there is no such job
     */
    public <R> R result(String jobId, Class<R> type, Duration timeout) {
        JsonNode stored = stored(jobId);
        if (stored != null) {
            return convert(stored, type);
        }
        try (EventStream events = follow(jobId, 0, timeout)) {
            for (Event event : events) {
                if (event instanceof Event.Done done) {
                    return convert(done.result(), type);
                } else if (event instanceof Event.Failed failed) {
                    throw JobEndedException.of(jobId, failed.fault());
                } else if (event instanceof Event.Cancelled cancelled) {
                    throw JobEndedException.of(jobId, cancelled.fault());
                }
            }
        }
        throw new JobNotFoundException(jobId, "The stream of the job ended without an end.");
    }

    /** The result of a job that has ended, or null. */
    private JsonNode stored(String jobId) {
        String text = patiently(jobId, () -> redis.get("celery-task-meta-" + jobId));
        if (text == null) {
            return null;
        }
        try {
            JsonNode meta = Json.MAPPER.readTree(text);
            if (meta.path("status").asText().equals("SUCCESS")) {
                return meta.path("result");
            }
            throw JobEndedException.of(jobId, fault(jobId, meta.path("result")));
        } catch (JsonProcessingException error) {
            throw new IllegalStateException("The result of job " + jobId + " is no JSON", error);
        }
    }

    /** The record holds the whole fault; Celery's result only its code and message. */
    private Fault fault(String jobId, JsonNode result) throws JsonProcessingException {
        String whole = patiently(jobId, () -> redis.hashGet(prefix + "job:" + jobId, "fault"));
        if (whole != null) {
            return Json.MAPPER.readValue(whole, Fault.class);
        }
        String code = result.path("exc_type").asText();
        return new Fault(code, result.path("exc_message").path(0).asText(), "", null, false);
    }

    <R> R convert(Object result, Class<R> type) {
        return Json.MAPPER.convertValue(result, type);
    }

    /**
     * Stop a job, in mid-word if need be.
     *
     * @param jobId the job
     * @return false when it had ended
     * @throws JobNotFoundException when there is no such job
     */
    public boolean cancel(String jobId) {
        String answer = patiently(jobId, () -> Script.CANCEL.call(redis, List.of(prefix, jobId))).get(0);
        if (answer.equals("unknown")) {
            throw new JobNotFoundException(jobId, "There is no such job, or it has expired.");
        }
        return answer.equals("cancelled");
    }

    /**
     * Say that the caller of a job with {@link SubmitOptions#presence()} is still there; every 5 seconds.
     *
     * @param jobId the job
     */
    public void keepAlive(String jobId) {
        patiently(jobId, () -> {
            redis.setExpiring(prefix + "presence:" + jobId, "1", PRESENCE_TTL);
            return true;
        });
    }

    /**
     * Ask Redis for a sign of life, once.
     *
     * @throws BrokerUnavailableException when there is none
     */
    public void ping() {
        redis.ping();
    }

    /**
     * How many jobs are followed now.
     *
     * @return listeners and event streams
     */
    public int following() {
        return reader.following();
    }

    /**
     * Whether the shared reader's last read went well.
     *
     * @return true also where nobody is followed
     */
    public boolean connected() {
        return reader.connected();
    }

    /** Ends the reader; what was followed gets {@code broker_unavailable}. The port is not closed. */
    @Override
    public void close() {
        reader.close();
    }

    /** Every call here may be repeated: the same message is the same job. */
    private <T> T patiently(String jobId, Supplier<T> call) {
        long until = System.nanoTime() + patience.toNanos();
        for (long pause = FIRST_PAUSE_MS; ; pause = Math.min(LONGEST_PAUSE_MS, pause * 2)) {
            try {
                return call.get();
            } catch (BrokerUnavailableException error) {
                if (System.nanoTime() + Duration.ofMillis(pause).toNanos() > until || !slept(pause)) {
                    throw new BrokerUnavailableException(error.getMessage(), jobId, error);
                }
            }
        }
    }

    private static boolean slept(long millis) {
        try {
            Thread.sleep(millis);
            return true;
        } catch (InterruptedException stop) {
            Thread.currentThread().interrupt();
            return false;
        }
    }

    /** How a client is set up. */
    public static final class Builder {
        private final RedisPort redis;
        private String prefix = "maeari:";
        private String application = "spring";
        private String tenant;
        private MessageSigner signer;
        private Duration patience = Duration.ofSeconds(10);
        private Duration block = Duration.ofMillis(100);
        private ClientObserver observer = ClientObserver.NONE;

        private Builder(RedisPort redis) {
            this.redis = redis;
        }

        /**
         * Where the cluster's keys begin.
         *
         * @param value the cluster's {@code MAEARI_KEY_PREFIX}; by default {@code maeari:}
         * @return this
         */
        public Builder prefix(String value) {
            this.prefix = value;
            return this;
        }

        /**
         * Where the ids of its jobs begin.
         *
         * @param value by default {@code spring}
         * @return this
         */
        public Builder application(String value) {
            this.application = value;
            return this;
        }

        /**
         * The tenant of requests that name none.
         *
         * @param value null: the cluster's default
         * @return this
         */
        public Builder tenant(String value) {
            this.tenant = value;
            return this;
        }

        /**
         * Sign messages.
         *
         * @param value null: do not
         * @return this
         */
        public Builder signer(MessageSigner value) {
            this.signer = value;
            return this;
        }

        /**
         * How long a call rides out a Redis that does not answer.
         *
         * @param value by default 10 seconds
         * @return this
         */
        public Builder patience(Duration value) {
            this.patience = value;
            return this;
        }

        /**
         * How long one read of the shared reader waits, and so how late a job that begins to be followed may be heard.
         *
         * @param value by default 100 milliseconds; at least 1
         * @return this
         */
        public Builder block(Duration value) {
            if (value.toMillis() < 1) {
                throw new IllegalArgumentException("Redis would wait for ever for a block of 0 ms.");
            }
            this.block = value;
            return this;
        }

        /**
         * Be told what the client does.
         *
         * @param value by default nobody
         * @return this
         */
        public Builder observer(ClientObserver value) {
            this.observer = value;
            return this;
        }

        /**
         * The client; it connects at the first call.
         *
         * @return to be closed at the end of the application
         */
        public MaeariClient build() {
            return new MaeariClient(this);
        }
    }
}
