package io.maeari.client.result;

import com.fasterxml.jackson.annotation.JsonIgnoreProperties;
import com.fasterxml.jackson.annotation.JsonProperty;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.util.Base64;
import java.util.List;

/**
 * Result of {@code rag.embed}: one vector of unit length per text, in order.
 *
 * @param vectors in the order of the texts; empty where they are packed
 * @param packed base64 of 32-bit floats, little-endian, one vector after another; empty unless it was asked for
 * @param dimension of each
 * @param engineMs in the engine
 * @param engine that made it
 */
@JsonIgnoreProperties(ignoreUnknown = true)
public record Embeddings(
        List<List<Double>> vectors,
        String packed,
        int dimension,
        @JsonProperty("engine_ms") double engineMs,
        EngineInfo engine) {
    /**
     * The packed vectors.
     *
     * @return one for each text, in order
     */
    public float[][] unpacked() {
        FloatBuffer numbers = ByteBuffer.wrap(Base64.getDecoder().decode(packed))
                .order(ByteOrder.LITTLE_ENDIAN)
                .asFloatBuffer();
        float[][] found = new float[numbers.remaining() / dimension][dimension];
        for (float[] vector : found) {
            numbers.get(vector);
        }
        return found;
    }
}
