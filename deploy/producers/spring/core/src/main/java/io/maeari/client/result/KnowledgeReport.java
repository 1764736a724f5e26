package io.maeari.client.result;

import com.fasterxml.jackson.annotation.JsonIgnoreProperties;
import com.fasterxml.jackson.annotation.JsonProperty;
import java.util.List;

/**
 * Result of every {@code knowledge.*} task: what was touched or listed.
 *
 * @param collection or null
 * @param collections when they were listed
 * @param documents that were touched or listed
 * @param chunks that were touched
 * @param engineMs in the engine
 */
@JsonIgnoreProperties(ignoreUnknown = true)
public record KnowledgeReport(
        String collection,
        List<CollectionInfo> collections,
        List<DocumentInfo> documents,
        int chunks,
        @JsonProperty("engine_ms") double engineMs) {}
