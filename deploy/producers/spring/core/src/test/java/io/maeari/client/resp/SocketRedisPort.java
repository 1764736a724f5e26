package io.maeari.client.resp;

import io.maeari.client.RedisPort;
import io.maeari.client.ScriptReply;
import io.maeari.client.StreamConnection;
import io.maeari.client.StreamEntry;
import java.net.URI;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentLinkedDeque;
import java.util.function.Function;

/**
 * The port over plain sockets, without any library: for tests and for trying things out. Production takes the starter,
 * with Lettuce's connections, TLS settings and Sentinel.
 */
public final class SocketRedisPort implements RedisPort, AutoCloseable {
    private final URI url;
    private final ConcurrentLinkedDeque<RespConnection> idle = new ConcurrentLinkedDeque<>();

    /**
     * Connects at the first call.
     *
     * @param url {@code redis://[user:password@]host:port[/db]} or {@code rediss://...}
     */
    public SocketRedisPort(String url) {
        this.url = URI.create(url);
    }

    @Override
    public List<String> evalSha(String sha1, ScriptReply reply, List<String> arguments) {
        List<String> command = new ArrayList<>(List.of("EVALSHA", sha1, "0"));
        command.addAll(arguments);
        Object answer = call(command);
        return reply == ScriptReply.VALUE ? List.of((String) answer) : strings(answer);
    }

    @Override
    public void scriptLoad(String script) {
        call(List.of("SCRIPT", "LOAD", script));
    }

    @Override
    public String get(String key) {
        return (String) call(List.of("GET", key));
    }

    @Override
    public String hashGet(String key, String field) {
        return (String) call(List.of("HGET", key, field));
    }

    @Override
    public void setExpiring(String key, String value, Duration ttl) {
        call(List.of("SET", key, value, "EX", Long.toString(ttl.toSeconds())));
    }

    @Override
    public void ping() {
        call(List.of("PING"));
    }

    @Override
    public StreamConnection openStreams() {
        RespConnection connection = new RespConnection(url);
        return new StreamConnection() {
            @Override
            public List<StreamEntry> read(Map<String, String> positions, int count, Duration block) {
                return entries(connection.call(readCommand(positions, count, block), (int) block.toMillis()));
            }

            @Override
            public void close() {
                connection.close();
            }
        };
    }

    @Override
    public void close() {
        idle.forEach(RespConnection::close);
    }

    private Object call(List<String> command) {
        return with(connection -> connection.call(command, 0));
    }

    private Object with(Function<RespConnection, Object> work) {
        RespConnection kept = idle.pollFirst();
        RespConnection connection = kept == null ? new RespConnection(url) : kept;
        try {
            return work.apply(connection);
        } finally {
            if (connection.broken()) {
                connection.close();
            } else {
                idle.addFirst(connection);
            }
        }
    }

    private static List<String> readCommand(Map<String, String> positions, int count, Duration block) {
        List<String> command = new ArrayList<>(List.of(
                "XREAD", "COUNT", Integer.toString(count), "BLOCK", Long.toString(block.toMillis()), "STREAMS"));
        List<String> streams = List.copyOf(positions.keySet());
        command.addAll(streams);
        streams.forEach(stream -> command.add(positions.get(stream)));
        return command;
    }

    private static List<StreamEntry> entries(Object answer) {
        List<StreamEntry> found = new ArrayList<>();
        for (Object stream : answer == null ? List.of() : (List<?>) answer) {
            List<?> named = (List<?>) stream;
            for (Object entry : (List<?>) named.get(1)) {
                List<?> parts = (List<?>) entry;
                found.add(new StreamEntry((String) named.get(0), (String) parts.get(0), pairs(parts.get(1))));
            }
        }
        return found;
    }

    private static Map<String, String> pairs(Object flat) {
        List<String> words = strings(flat);
        Map<String, String> pairs = new HashMap<>();
        for (int at = 0; at + 1 < words.size(); at += 2) {
            pairs.put(words.get(at), words.get(at + 1));
        }
        return pairs;
    }

    private static List<String> strings(Object answer) {
        return ((List<?>) answer).stream().map(String::valueOf).toList();
    }
}
