package io.maeari.client;

import java.time.Duration;

/**
 * How a job is handed in.
 *
 * @param jobId 1 to 128 of {@code A-Z a-z 0-9 . _ : -}; the same id twice is one job; null: the application's name and
 *     a UUID
 * @param priority who goes first
 * @param deadline from now, after which nobody wants the result; null: the cluster's default
 * @param presence the job ends when nobody has called {@link MaeariClient#keepAlive} for 15 seconds
 */
public record SubmitOptions(String jobId, Priority priority, Duration deadline, boolean presence) {
    /** An interactive job with an id of its own and the cluster's deadline. */
    public static final SubmitOptions DEFAULTS = new SubmitOptions(null, Priority.INTERACTIVE, null, false);

    /**
     * The same with another id.
     *
     * @param chosen the id
     * @return a copy
     */
    public SubmitOptions withJobId(String chosen) {
        return new SubmitOptions(chosen, priority, deadline, presence);
    }

    /**
     * The same with another priority.
     *
     * @param chosen the priority
     * @return a copy
     */
    public SubmitOptions withPriority(Priority chosen) {
        return new SubmitOptions(jobId, chosen, deadline, presence);
    }

    /**
     * The same with another deadline.
     *
     * @param fromNow after which nobody wants the result
     * @return a copy
     */
    public SubmitOptions withDeadline(Duration fromNow) {
        return new SubmitOptions(jobId, priority, fromNow, presence);
    }

    /**
     * The same, but the job ends when its caller goes away.
     *
     * @return a copy
     */
    public SubmitOptions withPresence() {
        return new SubmitOptions(jobId, priority, deadline, true);
    }
}
