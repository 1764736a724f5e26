package io.maeari.spring;

import io.maeari.client.RedisPort;
import io.maeari.client.ScriptReply;
import io.maeari.client.StreamConnection;
import io.maeari.client.StreamEntry;
import io.maeari.client.error.BrokerUnavailableException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CopyOnWriteArrayList;

/** A port that takes every job and tells the events that a test adds. */
final class StubPort implements RedisPort {
    final List<List<String>> calls = new CopyOnWriteArrayList<>();
    final List<StreamEntry> entries = new CopyOnWriteArrayList<>();
    volatile boolean down;

    void add(String jobId, String type, String data) {
        String stream = "maeari:events:" + jobId;
        long seq = 1 + entries.stream().filter(entry -> entry.stream().equals(stream)).count();
        Map<String, String> fields = Map.of("type", type, "at", Long.toString(1000 * seq), "data", data);
        entries.add(new StreamEntry(stream, seq + "-0", fields));
    }

    @Override
    public List<String> evalSha(String sha1, ScriptReply reply, List<String> arguments) {
        calls.add(arguments);
        return List.of(reply == ScriptReply.LIST ? "ok" : "cancelled");
    }

    @Override
    public void scriptLoad(String script) {}

    @Override
    public String get(String key) {
        return null;
    }

    @Override
    public String hashGet(String key, String field) {
        return "running";
    }

    @Override
    public void setExpiring(String key, String value, Duration ttl) {}

    @Override
    public void ping() {
        if (down) {
            throw new BrokerUnavailableException("down", null);
        }
    }

    @Override
    public StreamConnection openStreams() {
        return new StreamConnection() {
            @Override
            public List<StreamEntry> read(Map<String, String> positions, int count, Duration block) {
                List<StreamEntry> found = new ArrayList<>();
                for (StreamEntry entry : entries) {
                    String after = positions.get(entry.stream());
                    if (after != null && seq(entry.id()) > seq(after)) {
                        found.add(entry);
                    }
                }
                if (found.isEmpty()) {
                    pause();
                }
                return found;
            }

            @Override
            public void close() {}
        };
    }

    private static long seq(String id) {
        return Long.parseLong(id.substring(0, id.indexOf('-')));
    }

    private static void pause() {
        try {
            Thread.sleep(1); // a real one would block
        } catch (InterruptedException stop) {
            Thread.currentThread().interrupt();
        }
    }
}
