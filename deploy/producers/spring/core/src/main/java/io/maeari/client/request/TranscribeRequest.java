package io.maeari.client.request;

import com.fasterxml.jackson.annotation.JsonInclude;
import com.fasterxml.jackson.annotation.JsonProperty;
import io.maeari.client.BlobRef;
import io.maeari.client.result.Transcript;

/**
 * {@code stt.transcribe}: speech to text. Any container that FFmpeg reads.
 *
 * @param tenant whose data it is; null: the client's
 * @param audio from {@link io.maeari.client.Blobs#upload}
 * @param language {@code ko} or {@code en}; null: detected
 * @param wordTimestamps time each word; null: no
 * @param hint names and terms that are likely to be spoken, or null
 */
@JsonInclude(JsonInclude.Include.NON_NULL)
public record TranscribeRequest(
        String tenant,
        BlobRef audio,
        String language,
        @JsonProperty("word_timestamps") Boolean wordTimestamps,
        String hint)
        implements MaeariRequest<Transcript> {
    /**
     * The plain form.
     *
     * @param audio from {@link io.maeari.client.Blobs#upload}
     * @return the request
     */
    public static TranscribeRequest of(BlobRef audio) {
        return new TranscribeRequest(null, audio, null, null, null);
    }

    @Override
    public String task() {
        return "stt.transcribe";
    }

    @Override
    public Class<Transcript> resultType() {
        return Transcript.class;
    }
}
