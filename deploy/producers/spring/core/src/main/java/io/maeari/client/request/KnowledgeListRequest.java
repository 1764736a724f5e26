package io.maeari.client.request;

import com.fasterxml.jackson.annotation.JsonInclude;
import io.maeari.client.result.KnowledgeReport;

/**
 * {@code knowledge.list}: the tenant's collections, or the documents of one.
 *
 * @param tenant whose data it is; null: the client's
 * @param collection its name; null: all collections
 */
@JsonInclude(JsonInclude.Include.NON_NULL)
public record KnowledgeListRequest(String tenant, String collection) implements MaeariRequest<KnowledgeReport> {
    @Override
    public String task() {
        return "knowledge.list";
    }

    @Override
    public Class<KnowledgeReport> resultType() {
        return KnowledgeReport.class;
    }
}
