package io.maeari.client.request;

import com.fasterxml.jackson.annotation.JsonInclude;
import com.fasterxml.jackson.annotation.JsonProperty;
import io.maeari.client.result.Generation;
import java.util.List;
import java.util.Map;

/**
 * {@code llm.generate}: the next message of a conversation.
 *
 * @param tenant whose data it is; null: the client's
 * @param messages of the conversation so far
 * @param model null: whatever is served
 * @param adapter LoRA adapter, or null
 * @param sampling or null
 * @param jsonSchema that the text must match, or null
 * @param stream emit {@code text.delta} events; null: no
 * @param prefix beginning of the reply that stands already, or null
 */
@JsonInclude(JsonInclude.Include.NON_NULL)
public record GenerateRequest(
        String tenant,
        List<Message> messages,
        String model,
        String adapter,
        Sampling sampling,
        @JsonProperty("json_schema") Map<String, Object> jsonSchema,
        Boolean stream,
        String prefix)
        implements MaeariRequest<Generation> {
    /**
     * The plain form, streamed.
     *
     * @param messages of the conversation so far
     * @return the request
     */
    public static GenerateRequest streaming(Message... messages) {
        return new GenerateRequest(null, List.of(messages), null, null, null, null, true, null);
    }

    /**
     * The same with another sampling.
     *
     * @param sampling how tokens are drawn
     * @return a copy
     */
    public GenerateRequest withSampling(Sampling sampling) {
        return new GenerateRequest(tenant, messages, model, adapter, sampling, jsonSchema, stream, prefix);
    }

    @Override
    public String task() {
        return "llm.generate";
    }

    @Override
    public Class<Generation> resultType() {
        return Generation.class;
    }
}
