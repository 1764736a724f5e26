package io.maeari.client.error;

/** The call was refused before it reached the cluster's workers. */
public final class InvalidRequestException extends MaeariException {
    private static final long serialVersionUID = 1L;

    private final String field;

    /**
     * A refusal.
     *
     * @param code as in the wire contract
     * @param message for people
     * @param field the offending argument
     */
    public InvalidRequestException(String code, String message, String field) {
        super(code, message, null, null);
        this.field = field;
    }

    /**
     * Where the mistake is.
     *
     * @return for example {@code job_id}
     */
    public String field() {
        return field;
    }
}
