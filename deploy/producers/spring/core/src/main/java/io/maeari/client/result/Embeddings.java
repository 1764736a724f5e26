package io.maeari.client.result;

import com.fasterxml.jackson.annotation.JsonIgnoreProperties;
import com.fasterxml.jackson.annotation.JsonProperty;
import java.util.List;

/**
 * Result of {@code rag.embed}: one vector of unit length per text, in order.
 *
 * @param vectors in the order of the texts
 * @param dimension of each
 * @param engineMs in the engine
 * @param engine that made it
 */
@JsonIgnoreProperties(ignoreUnknown = true)
public record Embeddings(
        List<List<Double>> vectors,
        int dimension,
        @JsonProperty("engine_ms") double engineMs,
        EngineInfo engine) {}
