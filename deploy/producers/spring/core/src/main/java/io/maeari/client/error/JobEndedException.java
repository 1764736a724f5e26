package io.maeari.client.error;

/** A job ended without a result; {@link #fault()} says why. */
public abstract class JobEndedException extends MaeariException {
    private static final long serialVersionUID = 1L;

    private final transient Fault fault;

    JobEndedException(String jobId, Fault fault) {
        super(fault.code(), fault.message(), jobId, null);
        this.fault = fault;
    }

    /**
     * The whole report, with stage and field.
     *
     * @return never null, unless this exception was serialized
     */
    public final Fault fault() {
        return fault;
    }

    /**
     * The exception that stands for a fault.
     *
     * @param jobId the job
     * @param fault why it ended
     * @return of the class that says what the caller can do about it
     */
    public static JobEndedException of(String jobId, Fault fault) {
        return switch (fault.code()) {
            case "cancelled" -> new JobCancelledException(jobId, fault);
            case "deadline_exceeded" -> new DeadlineExceededException(jobId, fault);
            case "caller_gone" -> new CallerGoneException(jobId, fault);
            case "invalid_request",
                    "invalid_message",
                    "bad_signature",
                    "unknown_task",
                    "unknown_pack",
                    "unknown_voice",
                    "unknown_adapter",
                    "unknown_model",
                    "unknown_tenant",
                    "unknown_collection",
                    "unknown_recipe",
                    "invalid_schema",
                    "text_too_long",
                    "invalid_blob",
                    "blob_missing",
                    "invalid_audio",
                    "audio_too_long",
                    "no_speech",
                    "unsatisfied_schema" -> new JobRejectedException(jobId, fault);
            default -> new JobFailedException(jobId, fault);
        };
    }
}
