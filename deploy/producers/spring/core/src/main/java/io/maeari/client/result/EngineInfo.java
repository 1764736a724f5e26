package io.maeari.client.result;

import com.fasterxml.jackson.annotation.JsonIgnoreProperties;

/**
 * Which engine made a result.
 *
 * @param name of the engine
 * @param model that it served
 * @param version of the engine
 * @param device for example {@code cpu}
 */
@JsonIgnoreProperties(ignoreUnknown = true)
public record EngineInfo(String name, String model, String version, String device) {}
