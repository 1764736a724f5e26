package io.maeari.client.result;

import com.fasterxml.jackson.annotation.JsonIgnoreProperties;
import java.util.Map;

/**
 * A retrieved chunk.
 *
 * @param id of the chunk
 * @param collection it was found in
 * @param document it belongs to
 * @param text of the chunk
 * @param score cosine similarity, 1.0 at best; the order is that of the fused ranks
 * @param metadata of its document
 */
@JsonIgnoreProperties(ignoreUnknown = true)
public record Source(
        String id,
        String collection,
        String document,
        String text,
        double score,
        Map<String, Object> metadata) {}
