package io.maeari.client.error;

/** Somebody cancelled the job. */
public final class JobCancelledException extends JobEndedException {
    private static final long serialVersionUID = 1L;

    /**
     * As the cluster reported it.
     *
     * @param jobId the job
     * @param fault why it ended
     */
    public JobCancelledException(String jobId, Fault fault) {
        super(jobId, fault);
    }
}
