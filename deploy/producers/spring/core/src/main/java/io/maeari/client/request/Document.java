package io.maeari.client.request;

import com.fasterxml.jackson.annotation.JsonInclude;
import com.fasterxml.jackson.annotation.JsonProperty;
import io.maeari.client.BlobRef;
import java.util.Map;

/**
 * A source of knowledge: its text, or a blob with it.
 *
 * @param id its name
 * @param text or null
 * @param blob or null
 * @param mediaType {@code text/plain} (null) or {@code text/markdown}
 * @param metadata flat: strings, numbers, booleans
 */
@JsonInclude(JsonInclude.Include.NON_NULL)
public record Document(
        String id,
        String text,
        BlobRef blob,
        @JsonProperty("media_type") String mediaType,
        Map<String, Object> metadata) {
    /**
     * A document that is at hand.
     *
     * @param id its name
     * @param text its text
     * @return the document
     */
    public static Document text(String id, String text) {
        return new Document(id, text, null, null, null);
    }
}
