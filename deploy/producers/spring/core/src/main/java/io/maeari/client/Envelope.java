package io.maeari.client;

import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.util.UUID;

/** The one JSON message: Celery's protocol 2 in Kombu's envelope, as the wire contract has it. */
final class Envelope {
    private Envelope() {}

    /**
     * The message that asks for a task; {@code signer} may be null.
     *
     * @param deadlineMs milliseconds since the epoch; only a signed message carries it
     */
    static String build(
            String task, String jobId, ObjectNode request, Priority priority, long deadlineMs, MessageSigner signer) {
        String body = body(request);
        ObjectNode message = Json.MAPPER.createObjectNode();
        message.put("body", body).put("content-type", "application/json").put("content-encoding", "utf-8");
        ObjectNode headers = message.putObject("headers");
        headers.put("task", task).put("id", jobId).put("root_id", jobId).put("lang", "java");
        headers.put("retries", 0).put("ignore_result", true);
        if (signer != null) {
            headers.put("deadline_ms", deadlineMs).put("signature", signer.sign(jobId, task, deadlineMs, body));
        }
        ObjectNode properties = message.putObject("properties");
        properties.put("delivery_tag", UUID.randomUUID().toString()).put("priority", priority.level());
        properties.putObject("delivery_info").put("exchange", "").put("routing_key", Catalog.entry(task).queue());
        return Json.write(message);
    }

    private static String body(ObjectNode request) {
        ArrayNode body = Json.MAPPER.createArrayNode();
        body.addArray().add(request);
        body.addObject();
        body.addObject();
        return Json.write(body);
    }
}
