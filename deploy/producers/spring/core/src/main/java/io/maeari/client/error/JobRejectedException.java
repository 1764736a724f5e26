package io.maeari.client.error;

/**
 * The cluster found the request or the upload wrong: correct it ({@code fault().field()} says where) and submit it
 * under a new id.
 */
public final class JobRejectedException extends JobEndedException {
    private static final long serialVersionUID = 1L;

    /**
     * As the cluster reported it.
     *
     * @param jobId the job
     * @param fault why it ended
     */
    public JobRejectedException(String jobId, Fault fault) {
        super(jobId, fault);
    }
}
