package io.maeari.client.error;

/** The blob store did not take or give bytes: {@code invalid_blob}, {@code blob_missing}, {@code store_unavailable}. */
public final class BlobException extends MaeariException {
    private static final long serialVersionUID = 1L;

    /**
     * A blob that could not be used.
     *
     * @param code as in the wire contract
     * @param message for people, without credentials
     * @param cause what lies below, or null
     */
    public BlobException(String code, String message, Throwable cause) {
        super(code, message, null, cause);
    }
}
