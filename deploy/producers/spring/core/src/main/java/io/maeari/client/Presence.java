package io.maeari.client;

import io.maeari.client.error.MaeariException;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;

/** Keeps many callers present with one thread: attend a job when its caller comes, leave it when the caller goes. */
public final class Presence implements AutoCloseable {
    private static final long EVERY_S = 5;

    private final MaeariClient client;
    private final Set<String> attended = ConcurrentHashMap.newKeySet();
    private final ScheduledExecutorService clock = Executors.newSingleThreadScheduledExecutor(work -> {
        Thread thread = new Thread(work, "maeari-presence");
        thread.setDaemon(true);
        return thread;
    });

    /**
     * Attends nobody yet.
     *
     * @param client through which it speaks
     */
    public Presence(MaeariClient client) {
        this.client = client;
        clock.scheduleAtFixedRate(this::refresh, EVERY_S, EVERY_S, TimeUnit.SECONDS);
    }

    /**
     * The caller of this job is there until {@link #leave}.
     *
     * @param jobId a job that was submitted with {@link SubmitOptions#withPresence()}
     */
    public void attend(String jobId) {
        attended.add(jobId);
    }

    /**
     * The caller has gone, or the job has ended.
     *
     * @param jobId the job
     */
    public void leave(String jobId) {
        attended.remove(jobId);
    }

    private void refresh() {
        for (String jobId : attended) {
            try {
                client.keepAlive(jobId);
            } catch (MaeariException error) {
                StreamReader.LOG.log(
                        System.Logger.Level.WARNING, "The presence of job {0} could not be refreshed", jobId);
            }
        }
    }

    @Override
    public void close() {
        clock.shutdownNow();
    }
}
