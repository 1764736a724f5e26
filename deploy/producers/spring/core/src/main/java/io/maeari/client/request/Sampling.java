package io.maeari.client.request;

import com.fasterxml.jackson.annotation.JsonInclude;
import com.fasterxml.jackson.annotation.JsonProperty;
import java.util.List;

/**
 * How tokens are drawn; a null component is left to the cluster.
 *
 * @param temperature 0 to 2
 * @param topP above 0, to 1
 * @param topK 0: all tokens
 * @param repetitionPenalty above 0, to 2
 * @param maxTokens 1 to 8192
 * @param minTokens before the model may end its reply
 * @param stop at most 8
 * @param seed for the same draw again
 */
@JsonInclude(JsonInclude.Include.NON_NULL)
public record Sampling(
        Double temperature,
        @JsonProperty("top_p") Double topP,
        @JsonProperty("top_k") Integer topK,
        @JsonProperty("repetition_penalty") Double repetitionPenalty,
        @JsonProperty("max_tokens") Integer maxTokens,
        @JsonProperty("min_tokens") Integer minTokens,
        List<String> stop,
        Long seed) {
    /**
     * Only a limit.
     *
     * @param maxTokens 1 to 8192
     * @return the rest is left to the cluster
     */
    public static Sampling maxTokens(int maxTokens) {
        return new Sampling(null, null, null, null, maxTokens, null, null, null);
    }
}
