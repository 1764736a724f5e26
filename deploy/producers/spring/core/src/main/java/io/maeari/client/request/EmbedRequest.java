package io.maeari.client.request;

import com.fasterxml.jackson.annotation.JsonInclude;
import io.maeari.client.result.Embeddings;
import java.util.List;

/**
 * {@code rag.embed}: texts to vectors of unit length.
 *
 * @param tenant whose data it is; null: the client's
 * @param texts 1 to 4096
 * @param encoding null: vectors as numbers; {@code base64}: packed, a quarter of the size, see {@link Embeddings#unpacked()}
 */
@JsonInclude(JsonInclude.Include.NON_NULL)
public record EmbedRequest(String tenant, List<String> texts, String encoding) implements MaeariRequest<Embeddings> {
    /**
     * Vectors as numbers.
     *
     * @param tenant whose data it is; null: the client's
     * @param texts 1 to 4096
     */
    public EmbedRequest(String tenant, List<String> texts) {
        this(tenant, texts, null);
    }

    /**
     * The plain form.
     *
     * @param texts 1 to 4096
     * @return the request
     */
    public static EmbedRequest of(String... texts) {
        return new EmbedRequest(null, List.of(texts));
    }

    /**
     * Vectors in one string, for many texts.
     *
     * @param texts 1 to 4096
     * @return the request
     */
    public static EmbedRequest packed(List<String> texts) {
        return new EmbedRequest(null, texts, "base64");
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
