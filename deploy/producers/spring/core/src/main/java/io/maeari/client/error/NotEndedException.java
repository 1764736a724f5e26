package io.maeari.client.error;

import java.time.Duration;

/** The time that the caller wanted to wait is over; the job goes on, ask again. */
public final class NotEndedException extends MaeariException {
    private static final long serialVersionUID = 1L;

    /**
     * A wait in vain.
     *
     * @param jobId the job
     * @param waited how long
     */
    public NotEndedException(String jobId, Duration waited) {
        super("not_ended", "The job has not ended within " + waited.toMillis() + " ms.", jobId, null);
    }
}
