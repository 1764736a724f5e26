package io.maeari.client;

import io.maeari.client.error.MaeariException;
import io.maeari.client.error.NotEndedException;
import io.maeari.client.event.Event;
import java.time.Duration;
import java.util.Iterator;
import java.util.NoSuchElementException;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/**
 * A job's events for a thread that waits for them. To be gone through once, and closed when it is left early:
 *
 * <pre>{@code
 * try (EventStream events = job.events(Duration.ofMinutes(1))) {
 *     for (Event event : events) { ... }
 * }
 * }</pre>
 */
public final class EventStream implements Iterable<Event>, Iterator<Event>, AutoCloseable {
    private final BlockingQueue<Object> queue = new LinkedBlockingQueue<>();
    private final String jobId;
    private final Duration timeout;
    private final long until;
    private final Subscription subscription;
    private Object next;
    private boolean ended;

    EventStream(StreamReader reader, String jobId, long after, Duration timeout) {
        this.jobId = jobId;
        this.timeout = timeout;
        this.until = System.nanoTime() + timeout.toNanos();
        this.subscription = reader.follow(jobId, after, new JobListener() {
            @Override
            public void onEvent(Event event) {
                queue.add(event);
            }

            @Override
            public void onError(MaeariException error) {
                queue.add(error);
            }
        });
    }

    @Override
    public Iterator<Event> iterator() {
        return this;
    }

    /**
     * Whether the stream goes on; waits for its next event.
     *
     * @throws NotEndedException when the time is over
     * @throws io.maeari.client.error.JobNotFoundException when there is no such job
     */
    @Override
    public boolean hasNext() {
        if (next == null && !ended) {
            next = waited();
        }
        if (next instanceof MaeariException error) {
            ended = true;
            next = null;
            throw error;
        }
        return next != null;
    }

    @Override
    public Event next() {
        if (!hasNext()) {
            throw new NoSuchElementException();
        }
        Event event = (Event) next;
        ended = event.terminal();
        next = null;
        return event;
    }

    private Object waited() {
        try {
            Object found = queue.poll(until - System.nanoTime(), TimeUnit.NANOSECONDS);
            if (found != null) {
                return found;
            }
        } catch (InterruptedException stop) {
            Thread.currentThread().interrupt();
        }
        close();
        return new NotEndedException(jobId, timeout);
    }

    @Override
    public void close() {
        subscription.close();
    }
}
