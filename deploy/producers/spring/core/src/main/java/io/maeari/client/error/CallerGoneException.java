package io.maeari.client.error;

/** Nobody refreshed the job's presence any more, so the cluster stopped it. */
public final class CallerGoneException extends JobEndedException {
    private static final long serialVersionUID = 1L;

    /**
     * As the cluster reported it.
     *
     * @param jobId the job
     * @param fault why it ended
     */
    public CallerGoneException(String jobId, Fault fault) {
        super(jobId, fault);
    }
}
