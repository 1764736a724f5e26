package io.maeari.client.result;

import com.fasterxml.jackson.annotation.JsonIgnoreProperties;
import com.fasterxml.jackson.annotation.JsonProperty;

/**
 * Result of {@code tts.enrol}: the voice can be named from now on.
 *
 * @param voice its name
 * @param digest SHA-256 over the recordings
 * @param durationS seconds of recordings
 * @param cached it had been computed before
 * @param engineMs in the engine
 * @param engine that made it
 */
@JsonIgnoreProperties(ignoreUnknown = true)
public record VoiceProfile(
        String voice,
        String digest,
        @JsonProperty("duration_s") double durationS,
        boolean cached,
        @JsonProperty("engine_ms") double engineMs,
        EngineInfo engine) {}
