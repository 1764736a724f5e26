package io.maeari.client;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.maeari.client.error.BrokerRefusedException;
import io.maeari.client.error.BrokerUnavailableException;
import io.maeari.client.error.JobNotFoundException;
import io.maeari.client.event.Event;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ThreadLocalRandom;

/**
 * Follows all jobs of an application with one thread and one connection: a single XREAD over many streams. After a lost
 * connection it goes on behind the last entry that each listener has heard.
 */
final class StreamReader implements AutoCloseable {
    static final System.Logger LOG = System.getLogger("io.maeari.client");

    /** Entries of each stream that one answer may hold. */
    private static final int COUNT = 200;
    /** Silence after which it is looked whether the job is still there, and between two such looks. */
    private static final long FIRST_LOOK_NS = Duration.ofSeconds(2).toNanos();

    private static final long NEXT_LOOK_NS = Duration.ofSeconds(10).toNanos();
    private static final long LONGEST_PAUSE_MS = 2_000;
    private static final Set<String> ENDED = Set.of("done", "failed", "cancelled");
    private static final Map<String, Class<? extends Event>> TYPES = Map.ofEntries(
            Map.entry("accepted", Event.Accepted.class),
            Map.entry("started", Event.Started.class),
            Map.entry("transcript", Event.Transcript.class),
            Map.entry("context", Event.Context.class),
            Map.entry("text.delta", Event.TextDelta.class),
            Map.entry("audio", Event.Audio.class),
            Map.entry("progress", Event.Progress.class),
            Map.entry("retrying", Event.Retrying.class),
            Map.entry("done", Event.Done.class),
            Map.entry("failed", Event.Failed.class),
            Map.entry("cancelled", Event.Cancelled.class));

    private final RedisPort redis;
    private final String prefix;
    private final Duration block;
    private final ClientObserver observer;

    /** Guarded by this object's monitor, as is {@code thread} and {@code closed}. */
    private final Map<String, List<Following>> followings = new HashMap<>();

    private Thread thread;
    private boolean closed;
    /** Of the reader's thread alone. */
    private StreamConnection connection;

    private volatile boolean connected = true;

    StreamReader(RedisPort redis, String prefix, Duration block, ClientObserver observer) {
        this.redis = redis;
        this.prefix = prefix;
        this.block = block;
        this.observer = observer;
    }

    synchronized Subscription follow(String jobId, long after, JobListener listener) {
        if (closed) {
            throw new BrokerUnavailableException("The client was closed.", jobId, null);
        }
        Following following = new Following(this, jobId, prefix + "events:" + jobId, after, listener);
        followings.computeIfAbsent(following.stream, key -> new ArrayList<>()).add(following);
        if (thread == null) {
            thread = new Thread(this::run, "maeari-streams");
            thread.setDaemon(true);
            thread.start();
        }
        notifyAll();
        return following;
    }

    synchronized void remove(Following following) {
        List<Following> group = followings.get(following.stream);
        if (group != null && group.remove(following) && group.isEmpty()) {
            followings.remove(following.stream);
        }
    }

    synchronized int following() {
        return followings.values().stream().mapToInt(List::size).sum();
    }

    /** Whether the last read went well; nobody to read for is well too. */
    boolean connected() {
        return connected || following() == 0;
    }

    @Override
    public void close() {
        Thread running;
        List<Following> left;
        synchronized (this) {
            closed = true;
            running = thread;
            left = all();
            followings.clear();
            notifyAll();
        }
        left.forEach(one -> one.fail(new BrokerUnavailableException("The client was closed.", one.jobId, null)));
        if (running != null && running != Thread.currentThread()) {
            running.interrupt();
        }
    }

    // --- the reader's thread ---

    private void run() {
        int failures = 0;
        while (waitForWork()) {
            try {
                read();
                failures = 0;
            } catch (BrokerRefusedException error) {
                failures = isolate() ? 0 : failures + 1;
            } catch (RuntimeException error) {
                disconnect();
                failures++;
                if (!isClosed()) {
                    connected = false;
                    observer.disconnected(error);
                    LOG.log(System.Logger.Level.WARNING, "Lost the connection to Redis, reading on soon: " + error);
                }
            }
            pause(failures);
        }
        disconnect();
    }

    /** True when there is something to read, false when the reader was closed. */
    private synchronized boolean waitForWork() {
        try {
            while (!closed && followings.isEmpty()) {
                wait();
            }
        } catch (InterruptedException end) {
            return !closed;
        }
        return !closed;
    }

    private void read() {
        Map<String, String> positions = positions();
        if (!positions.isEmpty()) {
            List<StreamEntry> entries = opened().read(positions, COUNT, block);
            connected = true;
            deliver(entries);
            lookAfterSilentJobs();
        }
    }

    private StreamConnection opened() {
        if (connection == null) {
            connection = redis.openStreams();
        }
        return connection;
    }

    private synchronized Map<String, String> positions() {
        Map<String, String> positions = new HashMap<>();
        followings.forEach((stream, group) -> {
            long first = group.stream().mapToLong(Following::lastSeq).min().orElse(0);
            positions.put(stream, first + "-0");
        });
        return positions;
    }

    private void deliver(List<StreamEntry> entries) {
        for (StreamEntry entry : entries) {
            long seq = Long.parseLong(entry.id().substring(0, entry.id().indexOf('-')));
            Event event = event(entry, seq);
            for (Following one : at(entry.stream())) {
                if (one.take(seq, event, observer)) {
                    remove(one);
                }
            }
        }
    }

    private synchronized List<Following> at(String stream) {
        return List.copyOf(followings.getOrDefault(stream, List.of()));
    }

    private synchronized List<Following> all() {
        return followings.values().stream().flatMap(List::stream).toList();
    }

    private synchronized boolean isClosed() {
        return closed;
    }

    /** Null for a type, or a shape of one, that this client does not know. */
    private Event event(StreamEntry entry, long seq) {
        Class<? extends Event> type = TYPES.get(entry.fields().get("type"));
        try {
            JsonNode data = Json.MAPPER.readTree(entry.fields().getOrDefault("data", ""));
            if (type == null || !(data instanceof ObjectNode object)) {
                return null;
            }
            object.put("seq", seq).put("job_id", entry.stream().substring((prefix + "events:").length()));
            object.put("at", Long.parseLong(entry.fields().get("at")));
            return Json.MAPPER.treeToValue(object, type);
        } catch (JsonProcessingException | NumberFormatException unknown) {
            return null;
        }
    }

    // --- jobs of which nothing is heard ---

    private void lookAfterSilentJobs() {
        long now = System.nanoTime();
        for (Following one : all()) {
            if (one.lookAt == 0) {
                one.lookAt = now + FIRST_LOOK_NS;
            } else if (one.over || now - one.lookAt > 0) {
                one.lookAt = now + NEXT_LOOK_NS;
                look(one);
            }
        }
    }

    /** A job may have ended between the read that gave nothing and this look, so one more read is due. */
    private void look(Following one) {
        String state = one.over ? "expired" : redis.hashGet(prefix + "job:" + one.jobId, "state");
        if (state == null) {
            end(one, "There is no such job, or it has expired.");
        } else if (one.over) {
            end(one, "The job has ended, and its events are no longer kept behind " + one.lastSeq() + ".");
        } else if (ENDED.contains(state)) {
            one.over = true;
        }
    }

    private void end(Following one, String why) {
        remove(one);
        one.fail(new JobNotFoundException(one.jobId, why));
    }

    // --- trouble ---

    /** One stream may not be read (by another application's job id, say): find it and let the others go on. */
    private boolean isolate() {
        boolean found = false;
        for (Following one : all()) {
            try {
                opened().read(Map.of(one.stream, one.lastSeq() + "-0"), 1, Duration.ofMillis(1));
            } catch (BrokerRefusedException error) {
                found = true;
                remove(one);
                one.fail(error);
            } catch (RuntimeException error) {
                disconnect();
                return found;
            }
        }
        return found;
    }

    private void disconnect() {
        if (connection != null) {
            try {
                connection.close();
            } catch (RuntimeException ignored) {
                LOG.log(System.Logger.Level.DEBUG, "A broken connection could not be closed", ignored);
            }
            connection = null;
        }
    }

    /** Longer from failure to failure, and not the same in all instances of a service. */
    private void pause(int failures) {
        if (failures > 0) {
            long longest = Math.min(LONGEST_PAUSE_MS, 25L << Math.min(failures, 7));
            try {
                Thread.sleep(ThreadLocalRandom.current().nextLong(longest / 2, longest + 1));
            } catch (InterruptedException end) {
                Thread.currentThread().interrupt();
            }
        }
    }
}
