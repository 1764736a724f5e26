package io.maeari.client.result;

import com.fasterxml.jackson.annotation.JsonIgnoreProperties;
import com.fasterxml.jackson.annotation.JsonProperty;
import io.maeari.client.BlobRef;
import java.util.List;

/**
 * Result of {@code tts.synthesize}.
 *
 * @param audio all sentences in one WAV
 * @param durationS seconds
 * @param sampleRate per second
 * @param sentences in order
 * @param voice who spoke
 * @param engineMs in the engine
 * @param engine that made it
 */
@JsonIgnoreProperties(ignoreUnknown = true)
public record Speech(
        BlobRef audio,
        @JsonProperty("duration_s") double durationS,
        @JsonProperty("sample_rate") int sampleRate,
        List<SpokenSentence> sentences,
        String voice,
        @JsonProperty("engine_ms") double engineMs,
        EngineInfo engine) {}
