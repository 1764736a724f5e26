package io.maeari.client;

/** Redis does not know a script (any more); the client loads it. Ports throw it, callers never see it. */
public final class NoScriptException extends RuntimeException {
    private static final long serialVersionUID = 1L;

    /**
     * As Redis answered.
     *
     * @param message what Redis said
     */
    public NoScriptException(String message) {
        super(message);
    }
}
