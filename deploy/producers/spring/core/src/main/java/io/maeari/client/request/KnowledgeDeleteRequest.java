package io.maeari.client.request;

import com.fasterxml.jackson.annotation.JsonInclude;
import io.maeari.client.result.KnowledgeReport;
import java.util.List;

/**
 * {@code knowledge.delete}: named documents, or without names the whole collection.
 *
 * @param tenant whose data it is; null: the client's
 * @param collection its name
 * @param documents their names; null or empty: the whole collection
 */
@JsonInclude(JsonInclude.Include.NON_NULL)
public record KnowledgeDeleteRequest(
        String tenant,
        String collection,
        List<String> documents)
        implements MaeariRequest<KnowledgeReport> {
    @Override
    public String task() {
        return "knowledge.delete";
    }

    @Override
    public Class<KnowledgeReport> resultType() {
        return KnowledgeReport.class;
    }
}
