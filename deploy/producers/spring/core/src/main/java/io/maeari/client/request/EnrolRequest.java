package io.maeari.client.request;

import com.fasterxml.jackson.annotation.JsonInclude;
import io.maeari.client.BlobRef;
import io.maeari.client.result.VoiceProfile;
import java.util.List;

/**
 * {@code tts.enrol}: recordings of a speaker (6 s or more in all) to a voice of the tenant.
 *
 * @param tenant whose data it is; null: the client's
 * @param voice its name from now on
 * @param audio 1 to 16 recordings
 * @param language {@code ko} (null) or {@code en}
 */
@JsonInclude(JsonInclude.Include.NON_NULL)
public record EnrolRequest(
        String tenant,
        String voice,
        List<BlobRef> audio,
        String language)
        implements MaeariRequest<VoiceProfile> {
    @Override
    public String task() {
        return "tts.enrol";
    }

    @Override
    public Class<VoiceProfile> resultType() {
        return VoiceProfile.class;
    }
}
