package io.maeari.client.request;

import com.fasterxml.jackson.annotation.JsonInclude;
import com.fasterxml.jackson.annotation.JsonProperty;
import io.maeari.client.result.Retrieval;
import java.util.List;
import java.util.Map;

/**
 * {@code rag.retrieve}: hybrid search over one or more collections.
 *
 * @param tenant whose data it is; null: the client's
 * @param query what to find
 * @param collections of the tenant, or null
 * @param pack search this pack's own knowledge as well, or null
 * @param topK 1 to 100; null: 3
 * @param minScore cosine similarity under which a hit is dropped; null: 0
 * @param filters on metadata, or null
 */
@JsonInclude(JsonInclude.Include.NON_NULL)
public record RetrieveRequest(
        String tenant,
        String query,
        List<CollectionQuery> collections,
        String pack,
        @JsonProperty("top_k") Integer topK,
        @JsonProperty("min_score") Double minScore,
        Map<String, Object> filters)
        implements MaeariRequest<Retrieval> {
    @Override
    public String task() {
        return "rag.retrieve";
    }

    @Override
    public Class<Retrieval> resultType() {
        return Retrieval.class;
    }
}
