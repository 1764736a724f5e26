package io.maeari.client;

import io.maeari.client.error.MaeariException;
import io.maeari.client.event.Event;
import java.time.Duration;

/** One listener at one stream, and where it is. Only the reader's thread moves it. */
final class Following implements Subscription {
    final String jobId;
    final String stream;
    final JobListener listener;
    private final StreamReader reader;
    private String task;
    private long acceptedAt;
    private volatile long seq;

    /** Reader's clock: when to look whether the job is still there; 0 sets it anew. */
    long lookAt;
    /** The job has ended, and one more read is due. */
    boolean over;

    Following(StreamReader reader, String jobId, String stream, long after, JobListener listener) {
        this.reader = reader;
        this.jobId = jobId;
        this.stream = stream;
        this.seq = after;
        this.listener = listener;
    }

    @Override
    public long lastSeq() {
        return seq;
    }

    @Override
    public void close() {
        reader.remove(this);
    }

    /** Hand an event on; true when it was the last one for this listener. {@code event} is null for an unknown type. */
    boolean take(long number, Event event, ClientObserver observer) {
        if (number <= seq) {
            return false;
        }
        seq = number;
        over = false;
        lookAt = 0;
        if (event == null) {
            return false;
        }
        if (event instanceof Event.Accepted accepted) {
            task = accepted.task();
            acceptedAt = accepted.at();
        }
        observer.heard(task, event, task == null ? null : Duration.ofMillis(event.at() - acceptedAt));
        try {
            listener.onEvent(event);
        } catch (RuntimeException error) {
            StreamReader.LOG.log(
                    System.Logger.Level.ERROR, "A listener of job " + jobId + " threw; it is removed", error);
            return true;
        }
        return event.terminal();
    }

    void fail(MaeariException error) {
        try {
            listener.onError(error);
        } catch (RuntimeException thrown) {
            StreamReader.LOG.log(System.Logger.Level.ERROR, "A listener of job " + jobId + " threw", thrown);
        }
    }
}
