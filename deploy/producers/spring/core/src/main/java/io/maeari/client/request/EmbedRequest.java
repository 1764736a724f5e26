package io.maeari.client.request;

import com.fasterxml.jackson.annotation.JsonInclude;
import io.maeari.client.result.Embeddings;
import java.util.List;

/**
 * {@code rag.embed}: texts to vectors of unit length.
 *
 * @param tenant whose data it is; null: the client's
 * @param texts 1 to 4096
 */
@JsonInclude(JsonInclude.Include.NON_NULL)
public record EmbedRequest(String tenant, List<String> texts) implements MaeariRequest<Embeddings> {
    /**
     * The plain form.
     *
     * @param texts 1 to 4096
     * @return the request
     */
    public static EmbedRequest of(String... texts) {
        return new EmbedRequest(null, List.of(texts));
    }

    @Override
    public String task() {
        return "rag.embed";
    }

    @Override
    public Class<Embeddings> resultType() {
        return Embeddings.class;
    }
}
