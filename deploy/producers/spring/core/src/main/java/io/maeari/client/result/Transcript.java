package io.maeari.client.result;

import com.fasterxml.jackson.annotation.JsonIgnoreProperties;
import com.fasterxml.jackson.annotation.JsonProperty;
import java.util.List;

/**
 * Result of {@code stt.transcribe}.
 *
 * @param text all of it
 * @param language for example {@code ko}
 * @param languageProbability 0 to 1
 * @param durationS seconds
 * @param segments in order
 * @param engineMs in the engine
 * @param engine that made it
 */
@JsonIgnoreProperties(ignoreUnknown = true)
public record Transcript(
        String text,
        String language,
        @JsonProperty("language_probability") double languageProbability,
        @JsonProperty("duration_s") double durationS,
        List<Segment> segments,
        @JsonProperty("engine_ms") double engineMs,
        EngineInfo engine) {}
