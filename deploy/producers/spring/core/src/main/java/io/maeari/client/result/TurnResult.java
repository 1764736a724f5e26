package io.maeari.client.result;

import com.fasterxml.jackson.annotation.JsonIgnoreProperties;
import com.fasterxml.jackson.annotation.JsonProperty;
import io.maeari.client.BlobRef;
import java.util.List;

/**
 * Result of {@code turns.start}.
 *
 * @param jobId the job
 * @param pack who answered
 * @param session the conversation
 * @param transcript what was asked: recognised, or the text as given
 * @param context what the model was told
 * @param reply the whole text
 * @param sentences empty without speech
 * @param audio all sentences in one WAV; null without speech
 * @param audioDurationS seconds
 * @param adapter LoRA adapter, or null
 * @param adapterVersion which version of it wrote the reply, or null
 * @param voice who spoke, or null
 * @param finishReason {@code stop} or {@code length}
 * @param usage tokens
 * @param ttftMs milliseconds from acceptance to the first token
 * @param ttfaMs milliseconds from acceptance to the first audio, or null
 * @param totalMs milliseconds in all
 * @param overheadMs part of it in which no engine was at work
 * @param timings of the stages
 */
@JsonIgnoreProperties(ignoreUnknown = true)
public record TurnResult(
        @JsonProperty("job_id") String jobId,
        String pack,
        String session,
        String transcript,
        List<Source> context,
        String reply,
        List<SpokenSentence> sentences,
        BlobRef audio,
        @JsonProperty("audio_duration_s") double audioDurationS,
        String adapter,
        @JsonProperty("adapter_version") String adapterVersion,
        String voice,
        @JsonProperty("finish_reason") String finishReason,
        Usage usage,
        @JsonProperty("ttft_ms") double ttftMs,
        @JsonProperty("ttfa_ms") Double ttfaMs,
        @JsonProperty("total_ms") double totalMs,
        @JsonProperty("overhead_ms") double overheadMs,
        List<StageTiming> timings) {}
