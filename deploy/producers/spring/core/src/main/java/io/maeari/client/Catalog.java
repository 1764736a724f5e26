package io.maeari.client;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import io.maeari.client.error.InvalidRequestException;

/** The tasks with their queues and limits, generated from the cluster's own contracts. */
final class Catalog {
    private static final JsonNode TASKS = read();

    private Catalog() {}

    /** What the enqueue script is told of a task. */
    record Entry(String queue, int maxAttempts) {}

    static Entry entry(String task) {
        JsonNode found = TASKS.path(task);
        if (!found.path("public").asBoolean()) {
            throw new InvalidRequestException("unknown_task", "There is no such task. " + task, "task");
        }
        return new Entry(found.path("queue").asText(), found.path("max_attempts").asInt());
    }

    private static JsonNode read() {
        try {
            return Json.MAPPER.readTree(Resources.text("catalog.json"));
        } catch (JsonProcessingException error) {
            throw new IllegalStateException(error);
        }
    }
}
