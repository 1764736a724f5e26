package io.maeari.client;

import io.maeari.client.error.BrokerUnavailableException;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.Supplier;

/** A Redis in memory: streams and fields for real, scripts with the answers that a test sets. */
final class FakeRedis implements RedisPort {
    final Map<String, List<StreamEntry>> streams = new HashMap<>();
    final Map<String, String> values = new HashMap<>();
    final Set<String> loaded = new HashSet<>();
    final List<List<String>> calls = new ArrayList<>();
    final Deque<Supplier<List<String>>> answers = new ArrayDeque<>();
    final Deque<RuntimeException> readErrors = new ArrayDeque<>();
    final Map<String, RuntimeException> forbidden = new HashMap<>();
    int opened;
    int reads;

    static Supplier<List<String>> says(String... words) {
        return () -> List.of(words);
    }

    static Supplier<List<String>> breaks() {
        return () -> {
            throw new BrokerUnavailableException("gone", null);
        };
    }

    synchronized void add(String jobId, String type, String data) {
        List<StreamEntry> entries = streams.computeIfAbsent("maeari:events:" + jobId, key -> new ArrayList<>());
        long seq = entries.size() + 1L;
        entries.add(new StreamEntry(
                "maeari:events:" + jobId,
                seq + "-0",
                Map.of("type", type, "at", Long.toString(1000 * seq), "data", data)));
    }

    @Override
    public synchronized List<String> evalSha(String sha1, ScriptReply reply, List<String> arguments) {
        if (!loaded.contains(sha1)) {
            throw new NoScriptException("NOSCRIPT No matching script.");
        }
        calls.add(arguments);
        return answers.isEmpty() ? List.of("ok") : answers.removeFirst().get();
    }

    @Override
    public synchronized void scriptLoad(String script) {
        loaded.add(Digests.hex("SHA-1", script.getBytes(java.nio.charset.StandardCharsets.UTF_8)));
    }

    @Override
    public synchronized String get(String key) {
        return values.get(key);
    }

    @Override
    public synchronized String hashGet(String key, String field) {
        return values.get(key + " " + field);
    }

    @Override
    public synchronized void setExpiring(String key, String value, Duration ttl) {
        values.put(key, value + " for " + ttl.toSeconds() + " s");
    }

    @Override
    public void ping() {}

    @Override
    public synchronized StreamConnection openStreams() {
        opened++;
        return new StreamConnection() {
            @Override
            public List<StreamEntry> read(Map<String, String> positions, int count, Duration block) {
                return readAll(positions, count);
            }

            @Override
            public void close() {}
        };
    }

    private synchronized List<StreamEntry> readAll(Map<String, String> positions, int count) {
        reads++;
        if (!readErrors.isEmpty()) {
            throw readErrors.removeFirst();
        }
        List<StreamEntry> found = new ArrayList<>();
        positions.forEach((stream, after) -> {
            if (forbidden.containsKey(stream)) {
                throw forbidden.get(stream);
            }
            long seq = Long.parseLong(after.substring(0, after.indexOf('-')));
            List<StreamEntry> entries = streams.getOrDefault(stream, List.of());
            found.addAll(entries.subList((int) Math.min(seq, entries.size()), entries.size()));
        });
        if (found.isEmpty()) {
            try {
                wait(1); // a real one would block
            } catch (InterruptedException stop) {
                Thread.currentThread().interrupt();
            }
        }
        return found.subList(0, Math.min(count, found.size()));
    }
}
