package io.maeari.client.error;

import java.time.Duration;
import java.util.Optional;

/**
 * Redis cannot be used now. When {@code submit} threw it, the job may or may not have arrived: submit again under
 * the same {@link #jobId()}, it stays one job.
 */
public final class BrokerUnavailableException extends MaeariException {
    private static final long serialVersionUID = 1L;
    private static final Duration RETRY_AFTER = Duration.ofSeconds(1);

    /**
     * For ports, which do not know about jobs.
     *
     * @param message what Redis or the network said
     * @param cause what lies below, or null
     */
    public BrokerUnavailableException(String message, Throwable cause) {
        this(message, null, cause);
    }

    /**
     * With the job that the call was about.
     *
     * @param message what Redis or the network said
     * @param jobId the job
     * @param cause what lies below, or null
     */
    public BrokerUnavailableException(String message, String jobId, Throwable cause) {
        super("broker_unavailable", message, jobId, cause);
    }

    @Override
    public Optional<Duration> retryAfter() {
        return Optional.of(RETRY_AFTER);
    }
}
