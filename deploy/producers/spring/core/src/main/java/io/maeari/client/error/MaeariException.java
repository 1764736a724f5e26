package io.maeari.client.error;

import java.time.Duration;
import java.util.Optional;

/** Everything that this client throws. Decide by the class or by {@link #code()}, never by the message. */
public abstract class MaeariException extends RuntimeException {
    private static final long serialVersionUID = 1L;

    private final String code;
    private final String jobId;

    /**
     * Only for the subclasses of this package.
     *
     * @param code as in the wire contract
     * @param message for people
     * @param jobId the job that it is about, or null
     * @param cause what lies below, or null
     */
    protected MaeariException(String code, String message, String jobId, Throwable cause) {
        super(message, cause);
        this.code = code;
        this.jobId = jobId;
    }

    /**
     * What happened, for programs.
     *
     * @return a code of the wire contract, or {@code not_ended} or {@code broker_refused}, which this client adds
     */
    public final String code() {
        return code;
    }

    /**
     * The job that it is about.
     *
     * @return empty when it is about none
     */
    public final Optional<String> jobId() {
        return Optional.ofNullable(jobId);
    }

    /**
     * After which time the same call is worth another try.
     *
     * @return empty when repeating the call does not help
     */
    public Optional<Duration> retryAfter() {
        return Optional.empty();
    }
}
