package io.maeari.client;

import com.fasterxml.jackson.core.json.JsonWriteFeature;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.json.JsonMapper;
import java.io.IOException;

/** JSON as it is on the wire; an application's own mapper may be set up in any way. */
final class Json {
    static final ObjectMapper MAPPER = JsonMapper.builder()
            .disable(DeserializationFeature.FAIL_ON_UNKNOWN_PROPERTIES)
            .build();

    private static final ObjectMapper ESCAPING =
            JsonMapper.builder().enable(JsonWriteFeature.ESCAPE_NON_ASCII).build();

    private Json() {}

    /** A lone surrogate has no UTF-8; it travels escaped, to where it is refused by name. */
    static String write(JsonNode node) {
        try {
            String text = MAPPER.writeValueAsString(node);
            return hasLoneSurrogate(text) ? ESCAPING.writeValueAsString(node) : text;
        } catch (IOException error) { // wider than upstream declares: Debian's Jackson says so
            throw new IllegalStateException(error);
        }
    }

    private static boolean hasLoneSurrogate(String text) {
        return text.codePoints().anyMatch(point -> Character.getType(point) == Character.SURROGATE);
    }
}
