package io.maeari.client.request;

import com.fasterxml.jackson.annotation.JsonInclude;
import io.maeari.client.result.Speech;

/**
 * {@code tts.synthesize}: text to speech; each sentence of a long text is an {@code audio} event.
 *
 * @param tenant whose data it is; null: the client's
 * @param text what to say
 * @param voice a pack's, or one that the tenant has enrolled
 * @param language {@code ko} (null) or {@code en}
 * @param engine {@code formant} or {@code neural}; null: the voice's own
 * @param speed 0.5 to 2; null: 1
 * @param seed for the same sound again, or null
 */
@JsonInclude(JsonInclude.Include.NON_NULL)
public record SynthesizeRequest(
        String tenant,
        String text,
        String voice,
        String language,
        String engine,
        Double speed,
        Long seed)
        implements MaeariRequest<Speech> {
    /**
     * The plain form.
     *
     * @param text what to say
     * @param voice who says it
     * @return the request
     */
    public static SynthesizeRequest of(String text, String voice) {
        return new SynthesizeRequest(null, text, voice, null, null, null, null);
    }

    @Override
    public String task() {
        return "tts.synthesize";
    }

    @Override
    public Class<Speech> resultType() {
        return Speech.class;
    }
}
