package io.maeari.client.result;

import com.fasterxml.jackson.annotation.JsonIgnoreProperties;
import com.fasterxml.jackson.annotation.JsonProperty;
import java.util.List;

/**
 * Result of {@code rag.retrieve}.
 *
 * @param sources best first
 * @param engineMs in the engine
 * @param engine that made it
 */
@JsonIgnoreProperties(ignoreUnknown = true)
public record Retrieval(List<Source> sources, @JsonProperty("engine_ms") double engineMs, EngineInfo engine) {}
