package io.maeari.client.request;

import com.fasterxml.jackson.annotation.JsonInclude;
import io.maeari.client.result.KnowledgeReport;
import java.util.List;

/**
 * {@code knowledge.add}: add or replace documents of a collection.
 *
 * @param tenant whose data it is; null: the client's
 * @param collection its name
 * @param documents 1 to 1000
 * @param profile {@code tokens-512-64} (null) or {@code chars-1000-0}
 */
@JsonInclude(JsonInclude.Include.NON_NULL)
public record KnowledgeAddRequest(
        String tenant,
        String collection,
        List<Document> documents,
        String profile)
        implements MaeariRequest<KnowledgeReport> {
    @Override
    public String task() {
        return "knowledge.add";
    }

    @Override
    public Class<KnowledgeReport> resultType() {
        return KnowledgeReport.class;
    }
}
