package io.maeari.client.result;

import com.fasterxml.jackson.annotation.JsonIgnoreProperties;
import com.fasterxml.jackson.annotation.JsonProperty;

/**
 * One stage of a turn, in milliseconds from the job's acceptance.
 *
 * @param stage the task
 * @param queuedAt when it was queued
 * @param startedAt when a worker began
 * @param finishedAt when it was done
 * @param engineMs in the engine
 * @param seq the sentence, for synthesis; else null
 */
@JsonIgnoreProperties(ignoreUnknown = true)
public record StageTiming(
        String stage,
        @JsonProperty("queued_at") double queuedAt,
        @JsonProperty("started_at") double startedAt,
        @JsonProperty("finished_at") double finishedAt,
        @JsonProperty("engine_ms") double engineMs,
        Integer seq) {}
