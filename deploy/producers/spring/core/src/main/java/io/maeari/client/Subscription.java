package io.maeari.client;

/** A listener's place at a job. */
public interface Subscription extends AutoCloseable {
    /**
     * The number of the last event that was heard: follow again behind it.
     *
     * @return 0 before the first
     */
    long lastSeq();

    /** Hear nothing more; the job goes on. */
    @Override
    void close();
}
