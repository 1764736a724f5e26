package io.maeari.client.error;

import java.time.Duration;
import java.util.Optional;

/** There is no room in the queue, or none for this tenant. Nothing was recorded. */
public final class QueueFullException extends MaeariException {
    private static final long serialVersionUID = 1L;

    private final Duration retryAfter;

    /**
     * As the cluster answered.
     *
     * @param jobId the id that was offered
     * @param retryAfter when there may be room, from the pace of the queue
     */
    public QueueFullException(String jobId, Duration retryAfter) {
        super("queue_full", "The queue is full; try again in " + retryAfter.toMillis() + " ms.", jobId, null);
        this.retryAfter = retryAfter;
    }

    @Override
    public Optional<Duration> retryAfter() {
        return Optional.of(retryAfter);
    }
}
