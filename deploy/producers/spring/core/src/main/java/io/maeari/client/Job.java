package io.maeari.client;

import io.maeari.client.event.Event;
import java.time.Duration;

/**
 * A job of the cluster, known by its id. Any instance of a service may hold one; nothing of the job lies in here.
 *
 * @param <R> what it answers
 */
public final class Job<R> {
    private final MaeariClient client;
    private final String id;
    private final Class<R> resultType;
    private final boolean created;

    Job(MaeariClient client, String id, Class<R> resultType, boolean created) {
        this.client = client;
        this.id = id;
        this.resultType = resultType;
        this.created = created;
    }

    /**
     * Its id.
     *
     * @return under which everything about it is found
     */
    public String id() {
        return id;
    }

    /**
     * Whether this call made it.
     *
     * @return false when the id was known: it is the same job
     */
    public boolean created() {
        return created;
    }

    /**
     * All its events, to the last.
     *
     * @param timeout how long to wait in all
     * @return to be closed
     */
    public EventStream events(Duration timeout) {
        return client.follow(id, 0, timeout);
    }

    /**
     * Its result, waited for.
     *
     * @param timeout how long to wait
     * @return the result
     * @throws io.maeari.client.error.JobEndedException when it ended without one
     * @throws io.maeari.client.error.NotEndedException when the time is over
     * @throws io.maeari.client.error.JobNotFoundException when there is no such job
     */
    public R result(Duration timeout) {
        return client.result(id, resultType, timeout);
    }

    /**
     * The result that its last event carries.
     *
     * @param done the last event
     * @return the result
     */
    public R result(Event.Done done) {
        return client.convert(done.result(), resultType);
    }

    /**
     * Stop it, in mid-word if need be.
     *
     * @return false when it had ended
     */
    public boolean cancel() {
        return client.cancel(id);
    }
}
