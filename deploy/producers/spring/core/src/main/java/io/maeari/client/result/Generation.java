package io.maeari.client.result;

import com.fasterxml.jackson.annotation.JsonIgnoreProperties;
import com.fasterxml.jackson.annotation.JsonProperty;

/**
 * Result of {@code llm.generate}.
 *
 * @param text the whole reply
 * @param finishReason {@code stop} or {@code length}
 * @param usage tokens
 * @param adapter LoRA adapter as it was asked for, or null
 * @param adapterVersion which version that was, or null
 * @param ttftMs from the engine's start to its first token
 * @param engineMs in the engine
 * @param engine that made it
 * @param sentences that were dispatched to synthesis
 */
@JsonIgnoreProperties(ignoreUnknown = true)
public record Generation(
        String text,
        @JsonProperty("finish_reason") String finishReason,
        Usage usage,
        String adapter,
        @JsonProperty("adapter_version") String adapterVersion,
        @JsonProperty("ttft_ms") double ttftMs,
        @JsonProperty("engine_ms") double engineMs,
        EngineInfo engine,
        int sentences) {}
