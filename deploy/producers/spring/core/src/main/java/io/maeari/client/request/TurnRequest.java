package io.maeari.client.request;

import com.fasterxml.jackson.annotation.JsonInclude;
import com.fasterxml.jackson.annotation.JsonProperty;
import io.maeari.client.BlobRef;
import io.maeari.client.result.TurnResult;

/**
 * {@code turns.start}: a question to a persona, spoken or written.
 *
 * @param tenant whose data it is; null: the client's
 * @param pack the persona
 * @param session the conversation that the turn belongs to
 * @param text the written question, or null
 * @param audio the spoken question, or null
 * @param language {@code ko} or {@code en}, of the question; null: the pack's
 * @param speech speak the reply; null: yes
 * @param voice null: the pack's
 * @param voiceEngine {@code formant} or {@code neural}; null: the voice's own
 * @param adapter null: the pack's
 * @param sampling null: the pack's
 * @param topK chunks of context, 0 to 20; null: the pack's
 */
@JsonInclude(JsonInclude.Include.NON_NULL)
public record TurnRequest(
        String tenant,
        String pack,
        String session,
        String text,
        BlobRef audio,
        String language,
        Boolean speech,
        String voice,
        @JsonProperty("voice_engine") String voiceEngine,
        String adapter,
        Sampling sampling,
        @JsonProperty("top_k") Integer topK)
        implements MaeariRequest<TurnResult> {
    /**
     * A written question.
     *
     * @param pack the persona
     * @param session the conversation
     * @param text the question
     * @return the request; the rest is the pack's
     */
    public static TurnRequest text(String pack, String session, String text) {
        return new TurnRequest(null, pack, session, text, null, null, null, null, null, null, null, null);
    }

    /**
     * A spoken question.
     *
     * @param pack the persona
     * @param session the conversation
     * @param audio from {@link io.maeari.client.Blobs#upload}
     * @return the request; the rest is the pack's
     */
    public static TurnRequest audio(String pack, String session, BlobRef audio) {
        return new TurnRequest(null, pack, session, null, audio, null, null, null, null, null, null, null);
    }

    /**
     * The same with another tenant.
     *
     * @param tenant tenant
     * @return a copy
     */
    public TurnRequest withTenant(String tenant) {
        return new TurnRequest(
                tenant, pack, session, text, audio, language, speech, voice, voiceEngine, adapter, sampling, topK);
    }

    /**
     * The same with another language of the question.
     *
     * @param language language of the question
     * @return a copy
     */
    public TurnRequest withLanguage(String language) {
        return new TurnRequest(
                tenant, pack, session, text, audio, language, speech, voice, voiceEngine, adapter, sampling, topK);
    }

    /**
     * The same with another answer to whether the reply is spoken.
     *
     * @param speech answer to whether the reply is spoken
     * @return a copy
     */
    public TurnRequest withSpeech(boolean speech) {
        return new TurnRequest(
                tenant, pack, session, text, audio, language, speech, voice, voiceEngine, adapter, sampling, topK);
    }

    /**
     * The same with another voice.
     *
     * @param voice voice
     * @return a copy
     */
    public TurnRequest withVoice(String voice) {
        return new TurnRequest(
                tenant, pack, session, text, audio, language, speech, voice, voiceEngine, adapter, sampling, topK);
    }

    /**
     * The same with another adapter.
     *
     * @param adapter adapter
     * @return a copy
     */
    public TurnRequest withAdapter(String adapter) {
        return new TurnRequest(
                tenant, pack, session, text, audio, language, speech, voice, voiceEngine, adapter, sampling, topK);
    }

    /**
     * The same with another sampling.
     *
     * @param sampling sampling
     * @return a copy
     */
    public TurnRequest withSampling(Sampling sampling) {
        return new TurnRequest(
                tenant, pack, session, text, audio, language, speech, voice, voiceEngine, adapter, sampling, topK);
    }

    /**
     * The same with another number of chunks of context.
     *
     * @param topK number of chunks of context
     * @return a copy
     */
    public TurnRequest withTopK(int topK) {
        return new TurnRequest(
                tenant, pack, session, text, audio, language, speech, voice, voiceEngine, adapter, sampling, topK);
    }

    @Override
    public String task() {
        return "turns.start";
    }

    @Override
    public Class<TurnResult> resultType() {
        return TurnResult.class;
    }
}
