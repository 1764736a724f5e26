package io.maeari.client.request;

import com.fasterxml.jackson.annotation.JsonValue;
import java.util.Map;

/**
 * Any task with its fields as they are on the wire: for a cluster that is newer than this client.
 *
 * @param task a name of the catalog
 * @param fields of the request, in snake case
 */
public record JsonRequest(String task, Map<String, Object> fields) implements MaeariRequest<Map<String, Object>> {
    /** They are the whole of the request on the wire. */
    @Override
    @JsonValue
    public Map<String, Object> fields() {
        return fields;
    }

    @Override
    @SuppressWarnings("unchecked")
    public Class<Map<String, Object>> resultType() {
        return (Class<Map<String, Object>>) (Class<?>) Map.class;
    }
}
