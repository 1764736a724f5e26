package io.maeari.client.error;

/** The cluster could not do it, tried again where that made sense, and gave up; submit it under a new id later. */
public final class JobFailedException extends JobEndedException {
    private static final long serialVersionUID = 1L;

    /**
     * As the cluster reported it.
     *
     * @param jobId the job
     * @param fault why it ended
     */
    public JobFailedException(String jobId, Fault fault) {
        super(jobId, fault);
    }
}
