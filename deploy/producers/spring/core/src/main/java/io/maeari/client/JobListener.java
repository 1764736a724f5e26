package io.maeari.client;

import io.maeari.client.error.MaeariException;
import io.maeari.client.event.Event;

/**
 * Hears the events of a job. Called by the thread that reads for everybody: hand the event over, never wait in here. An
 * exception that is thrown here ends this listener alone.
 */
public interface JobListener {
    /**
     * The next event; after a terminal one nothing comes.
     *
     * @param event as {@link Event#terminal()} says, maybe the last
     */
    void onEvent(Event event);

    /**
     * Nothing will come any more, though the job has not been seen to end.
     *
     * @param error {@code job_not_found}, {@code broker_refused}, or {@code broker_unavailable}: the client was closed
     */
    void onError(MaeariException error);
}
