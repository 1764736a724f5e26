package io.maeari.client.result;

import com.fasterxml.jackson.annotation.JsonIgnoreProperties;
import java.util.List;
import java.util.Map;

/**
 * Result of {@code training.run}.
 *
 * @param recipe that was run
 * @param kind {@code adapter}, {@code language}, {@code speech}, {@code embedding} or {@code voice}
 * @param version of an adapter, registered; else null
 * @param promoted whether it is served now
 * @param shortcomings why it may not be served; empty when it may
 * @param minutes it took
 * @param figures steps, losses, examination
 */
@JsonIgnoreProperties(ignoreUnknown = true)
public record TrainResult(
        String recipe,
        String kind,
        String version,
        boolean promoted,
        List<String> shortcomings,
        double minutes,
        Map<String, Object> figures) {}
