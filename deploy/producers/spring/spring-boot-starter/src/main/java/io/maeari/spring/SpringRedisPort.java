package io.maeari.spring;

import io.maeari.client.RedisPort;
import io.maeari.client.ScriptReply;
import io.maeari.client.StreamConnection;
import io.maeari.client.StreamEntry;
import io.maeari.client.error.BrokerUnavailableException;
import io.maeari.client.error.RedisErrors;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Function;
import java.util.regex.Pattern;
import org.springframework.dao.DataAccessException;
import org.springframework.data.redis.connection.RedisConnection;
import org.springframework.data.redis.connection.RedisStringCommands.SetOption;
import org.springframework.data.redis.connection.ReturnType;
import org.springframework.data.redis.connection.stream.ByteRecord;
import org.springframework.data.redis.connection.stream.ReadOffset;
import org.springframework.data.redis.connection.stream.StreamOffset;
import org.springframework.data.redis.connection.stream.StreamReadOptions;
import org.springframework.data.redis.core.RedisCallback;
import org.springframework.data.redis.core.StringRedisTemplate;
import org.springframework.data.redis.core.types.Expiration;

/** The port over Spring Data Redis: pools, TLS, Sentinel and passwords are those of {@code spring.data.redis.*}. */
public final class SpringRedisPort implements RedisPort {
    /** What Redis itself answers begins with a word in capitals; what a library or the network says does not. */
    private static final Pattern ANSWER = Pattern.compile("^[A-Z]{3,} ");

    private final StringRedisTemplate template;

    /**
     * Over the application's connection.
     *
     * @param template with a connection factory
     */
    public SpringRedisPort(StringRedisTemplate template) {
        this.template = template;
    }

    @Override
    public List<String> evalSha(String sha1, ScriptReply reply, List<String> arguments) {
        byte[][] given = arguments.stream().map(SpringRedisPort::bytes).toArray(byte[][]::new);
        if (reply == ScriptReply.VALUE) {
            byte[] value = run(redis -> redis.scriptingCommands().evalSha(sha1, ReturnType.VALUE, 0, given));
            return List.of(text(value));
        }
        List<Object> values = run(redis -> redis.scriptingCommands().evalSha(sha1, ReturnType.MULTI, 0, given));
        return values.stream().map(SpringRedisPort::word).toList();
    }

    @Override
    public void scriptLoad(String script) {
        run(redis -> redis.scriptingCommands().scriptLoad(bytes(script)));
    }

    @Override
    public String get(String key) {
        return text(run(redis -> redis.stringCommands().get(bytes(key))));
    }

    @Override
    public String hashGet(String key, String field) {
        return text(run(redis -> redis.hashCommands().hGet(bytes(key), bytes(field))));
    }

    @Override
    public void setExpiring(String key, String value, Duration ttl) {
        Expiration expiration = Expiration.seconds(ttl.toSeconds());
        run(redis -> redis.stringCommands().set(bytes(key), bytes(value), expiration, SetOption.upsert()));
    }

    @Override
    public void ping() {
        run(redis -> redis.commands().ping());
    }

    /** A connection that is kept: Spring gives each one a native connection of its own for what blocks. */
    @Override
    public StreamConnection openStreams() {
        RedisConnection connection =
                translated(() -> template.getRequiredConnectionFactory().getConnection());
        return new StreamConnection() {
            @Override
            public List<StreamEntry> read(Map<String, String> positions, int count, Duration block) {
                StreamReadOptions options = StreamReadOptions.empty().count(count).block(block);
                List<ByteRecord> found =
                        translated(() -> connection.streamCommands().xRead(options, offsets(positions)));
                return found == null ? List.of() : found.stream().map(SpringRedisPort::entry).toList();
            }

            @Override
            public void close() {
                translated(() -> {
                    connection.close();
                    return true;
                });
            }
        };
    }

    @SuppressWarnings({"rawtypes", "unchecked"}) // Java makes no arrays of generic types
    private static StreamOffset<byte[]>[] offsets(Map<String, String> positions) {
        List<StreamOffset<byte[]>> offsets = new ArrayList<>();
        positions.forEach((stream, after) -> offsets.add(StreamOffset.create(bytes(stream), ReadOffset.from(after))));
        return offsets.toArray(new StreamOffset[0]);
    }

    private static StreamEntry entry(ByteRecord found) {
        Map<String, String> fields = new HashMap<>();
        found.getValue().forEach((name, value) -> fields.put(text(name), text(value)));
        return new StreamEntry(text(found.getStream()), found.getId().getValue(), fields);
    }

    private <T> T run(Function<RedisConnection, T> call) {
        return translated(() -> template.execute((RedisCallback<T>) call::apply));
    }

    private interface Call<T> {
        T make();
    }

    private static <T> T translated(Call<T> call) {
        try {
            return call.make();
        } catch (DataAccessException error) {
            throw translation(error);
        }
    }

    /** Redis's own words decide where there are any; everything else is trouble on the way to it. */
    static RuntimeException translation(DataAccessException error) {
        for (Throwable cause = error; cause != null; cause = cause.getCause()) {
            String message = cause.getMessage();
            if (message != null && ANSWER.matcher(message).find()) {
                return RedisErrors.of(message, error);
            }
        }
        return new BrokerUnavailableException(String.valueOf(error.getMessage()), error);
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private static String text(byte[] bytes) {
        return bytes == null ? null : new String(bytes, StandardCharsets.UTF_8);
    }

    private static String word(Object value) {
        return value instanceof byte[] bytes ? text(bytes) : String.valueOf(value);
    }
}
