package io.maeari.client;

import com.fasterxml.jackson.annotation.JsonIgnoreProperties;
import com.fasterxml.jackson.annotation.JsonInclude;

/**
 * Stored bytes by reference; audio and documents travel only like this. {@link Blobs} makes and resolves them.
 *
 * @param key {@code <tenant>/<kind>/<name>}
 * @param size bytes, or null; checked when given
 * @param sha256 64 hexadecimal digits, or null; checked when given
 * @param mime for example {@code audio/wav}, or null
 */
@JsonInclude(JsonInclude.Include.NON_NULL)
@JsonIgnoreProperties(ignoreUnknown = true)
public record BlobRef(String key, Long size, String sha256, String mime) {
    /**
     * A reference that is not checked against its content.
     *
     * @param key {@code <tenant>/<kind>/<name>}
     * @return the reference
     */
    public static BlobRef of(String key) {
        return new BlobRef(key, null, null, null);
    }
}
