package io.maeari.client;

import io.maeari.client.event.Event;
import java.time.Duration;

/** Told what this client does, for metrics. Called on the client's threads: count, never wait. */
public interface ClientObserver {
    /** Counts nothing. */
    ClientObserver NONE = new ClientObserver() {};

    /**
     * A job was taken on.
     *
     * @param task its task
     * @param created false when the id was known
     */
    default void submitted(String task, boolean created) {}

    /**
     * A job was not taken on.
     *
     * @param task its task
     * @param code why
     */
    default void refused(String task, String code) {}

    /**
     * An event was heard.
     *
     * @param task the job's, or null when its beginning was not heard
     * @param event the event
     * @param sinceAccepted by the clock of Redis, or null when its beginning was not heard
     */
    default void heard(String task, Event event, Duration sinceAccepted) {}

    /**
     * The shared reader has lost its connection.
     *
     * @param error what was said
     */
    default void disconnected(RuntimeException error) {}
}
