package io.maeari.client.error;

/**
 * Redis answered with an error that repeating the call does not mend: {@code access_denied} when this user may not do
 * that, else {@code broker_refused}.
 */
public final class BrokerRefusedException extends MaeariException {
    private static final long serialVersionUID = 1L;

    /**
     * As Redis answered.
     *
     * @param code {@code access_denied} or {@code broker_refused}
     * @param message what Redis said
     * @param cause what lies below, or null
     */
    public BrokerRefusedException(String code, String message, Throwable cause) {
        super(code, message, null, cause);
    }
}
