package io.maeari.client.error;

/** The job's deadline passed. */
public final class DeadlineExceededException extends JobEndedException {
    private static final long serialVersionUID = 1L;

    /**
     * As the cluster reported it.
     *
     * @param jobId the job
     * @param fault why it ended
     */
    public DeadlineExceededException(String jobId, Fault fault) {
        super(jobId, fault);
    }
}
