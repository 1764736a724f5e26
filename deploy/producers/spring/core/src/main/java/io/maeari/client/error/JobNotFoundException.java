package io.maeari.client.error;

/** There is no such job, or what was asked for has expired. */
public final class JobNotFoundException extends MaeariException {
    private static final long serialVersionUID = 1L;

    /**
     * A job that is not there.
     *
     * @param jobId the job
     * @param message for people
     */
    public JobNotFoundException(String jobId, String message) {
        super("job_not_found", message, jobId, null);
    }
}
