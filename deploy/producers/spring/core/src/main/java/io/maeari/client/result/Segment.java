package io.maeari.client.result;

import com.fasterxml.jackson.annotation.JsonIgnoreProperties;
import java.util.List;

/**
 * A timed piece of a transcript; seconds from the beginning.
 *
 * @param text the piece
 * @param start seconds
 * @param end seconds
 * @param words when they were asked for
 */
@JsonIgnoreProperties(ignoreUnknown = true)
public record Segment(String text, double start, double end, List<Word> words) {}
