package io.maeari.client;

import java.util.Map;

/**
 * An entry of a Redis stream.
 *
 * @param stream its key
 * @param id {@code <seq>-0}
 * @param fields name to value
 */
public record StreamEntry(String stream, String id, Map<String, String> fields) {}
