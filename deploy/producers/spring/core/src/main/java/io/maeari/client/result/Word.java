package io.maeari.client.result;

import com.fasterxml.jackson.annotation.JsonIgnoreProperties;

/**
 * A timed word; seconds from the beginning.
 *
 * @param text the word
 * @param start seconds
 * @param end seconds
 * @param probability 0 to 1
 */
@JsonIgnoreProperties(ignoreUnknown = true)
public record Word(String text, double start, double end, double probability) {}
