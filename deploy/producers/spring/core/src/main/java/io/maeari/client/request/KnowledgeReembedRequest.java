package io.maeari.client.request;

import com.fasterxml.jackson.annotation.JsonInclude;
import io.maeari.client.result.KnowledgeReport;

/**
 * {@code knowledge.reembed}: compute a collection's vectors anew with the model that is served now.
 *
 * @param tenant whose data it is; null: the client's
 * @param collection its name
 */
@JsonInclude(JsonInclude.Include.NON_NULL)
public record KnowledgeReembedRequest(String tenant, String collection) implements MaeariRequest<KnowledgeReport> {
    @Override
    public String task() {
        return "knowledge.reembed";
    }

    @Override
    public Class<KnowledgeReport> resultType() {
        return KnowledgeReport.class;
    }
}
