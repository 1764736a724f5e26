package io.maeari.client;

import java.time.Duration;
import java.util.List;

/**
 * What this client needs of a Redis library: seven calls. Implementations may be used from many threads at once. They
 * throw {@link io.maeari.client.error.BrokerUnavailableException} when Redis cannot be reached, and for its error
 * answers what {@link io.maeari.client.error.RedisErrors#of} gives.
 */
public interface RedisPort {
    /**
     * {@code EVALSHA sha1 0 arguments...}
     *
     * @param sha1 of the script
     * @param reply what the script answers
     * @param arguments its {@code ARGV}
     * @return the elements of the list, or the one value; whole numbers as decimal text
     * @throws NoScriptException when Redis does not know the script
     */
    List<String> evalSha(String sha1, ScriptReply reply, List<String> arguments);

    /**
     * {@code SCRIPT LOAD}
     *
     * @param script its text
     */
    void scriptLoad(String script);

    /**
     * {@code GET}
     *
     * @param key of a string
     * @return its value, or null
     */
    String get(String key);

    /**
     * {@code HGET}
     *
     * @param key of a hash
     * @param field of it
     * @return its value, or null
     */
    String hashGet(String key, String field);

    /**
     * {@code SET key value EX seconds}
     *
     * @param key of a string
     * @param value of it
     * @param ttl whole seconds
     */
    void setExpiring(String key, String value, Duration ttl);

    /** {@code PING} */
    void ping();

    /**
     * A connection of its own for blocking reads. It is used by one thread, and closed and opened anew after an error.
     *
     * @return the connection
     */
    StreamConnection openStreams();
}
