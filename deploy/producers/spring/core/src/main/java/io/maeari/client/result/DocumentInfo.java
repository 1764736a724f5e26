package io.maeari.client.result;

import com.fasterxml.jackson.annotation.JsonIgnoreProperties;
import java.util.Map;

/**
 * A stored document.
 *
 * @param id its name
 * @param chunks it was cut into
 * @param metadata as given
 */
@JsonIgnoreProperties(ignoreUnknown = true)
public record DocumentInfo(String id, int chunks, Map<String, Object> metadata) {}
