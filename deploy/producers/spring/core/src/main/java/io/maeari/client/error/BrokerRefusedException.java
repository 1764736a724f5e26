package io.maeari.client.error;

/** Redis answered with an error that repeating the call does not mend, for example a missing permission. */
public final class BrokerRefusedException extends MaeariException {
    private static final long serialVersionUID = 1L;

    /**
     * As Redis answered.
     *
     * @param message what Redis said
     * @param cause what lies below, or null
     */
    public BrokerRefusedException(String message, Throwable cause) {
        super("broker_refused", message, null, cause);
    }
}
