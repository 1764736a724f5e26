package io.maeari.client.result;

import com.fasterxml.jackson.annotation.JsonIgnoreProperties;
import com.fasterxml.jackson.annotation.JsonProperty;
import io.maeari.client.BlobRef;

/**
 * One synthesized sentence; play them in the order of {@code seq}.
 *
 * @param seq from 0
 * @param text what is said
 * @param audio where the bytes are
 * @param durationS seconds
 */
@JsonIgnoreProperties(ignoreUnknown = true)
public record SpokenSentence(int seq, String text, BlobRef audio, @JsonProperty("duration_s") double durationS) {}
