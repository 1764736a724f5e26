package io.maeari.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.maeari.client.error.Fault;
import io.maeari.client.error.JobEndedException;
import io.maeari.client.event.Event;
import io.maeari.client.request.EmbedRequest;
import io.maeari.client.request.EnrolRequest;
import io.maeari.client.request.GenerateRequest;
import io.maeari.client.request.KnowledgeAddRequest;
import io.maeari.client.request.KnowledgeDeleteRequest;
import io.maeari.client.request.KnowledgeListRequest;
import io.maeari.client.request.KnowledgeReembedRequest;
import io.maeari.client.request.MaeariRequest;
import io.maeari.client.request.RetrieveRequest;
import io.maeari.client.request.SynthesizeRequest;
import io.maeari.client.request.TrainRequest;
import io.maeari.client.request.TranscribeRequest;
import io.maeari.client.request.TurnRequest;
import java.io.IOException;
import java.lang.reflect.RecordComponent;
import java.lang.reflect.ParameterizedType;
import java.lang.reflect.Type;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;

/** The records say what the cluster's own generated contracts say. */
class ContractTest {
    private static final List<Class<? extends MaeariRequest<?>>> REQUESTS = List.of(
            TurnRequest.class,
            TranscribeRequest.class,
            GenerateRequest.class,
            SynthesizeRequest.class,
            EnrolRequest.class,
            EmbedRequest.class,
            RetrieveRequest.class,
            KnowledgeAddRequest.class,
            KnowledgeListRequest.class,
            KnowledgeDeleteRequest.class,
            KnowledgeReembedRequest.class,
            TrainRequest.class);
    /** Fields that belong to the cluster, or to the version that this client is. */
    private static final Set<String> NOT_OURS = Set.of("schema_version", "speak", "seq");

    @Test
    void everyPublicTaskHasItsRequest() throws Exception {
        Set<String> tasks = new TreeSet<>();
        Project.schema("catalog.json").fields().forEachRemaining(entry -> {
            if (entry.getValue().path("public").asBoolean()) {
                tasks.add(entry.getKey());
            }
        });
        Set<String> ours = new TreeSet<>();
        for (Class<? extends MaeariRequest<?>> request : REQUESTS) {
            ours.add(blank(request).task());
        }
        assertEquals(tasks, ours);
    }

    @Test
    void requestsHaveTheFieldsOfTheirSchemas() throws Exception {
        for (Class<? extends MaeariRequest<?>> request : REQUESTS) {
            JsonNode schema = Project.schema(blank(request).task() + ".request.json");
            assertSameFields(schema, schema, request, NOT_OURS);
        }
    }

    @Test
    void resultsHaveTheFieldsOfTheirSchemas() throws Exception {
        for (Class<? extends MaeariRequest<?>> request : REQUESTS) {
            MaeariRequest<?> one = blank(request);
            JsonNode schema = Project.schema(one.task() + ".result.json");
            assertSameFields(schema, schema, one.resultType(), Set.of());
        }
    }

    @Test
    void eventsHaveTheFieldsOfTheirSchema() throws Exception {
        JsonNode schema = Project.schema("events.json");
        Map<String, Class<?>> records = Arrays.stream(Event.class.getPermittedSubclasses())
                .collect(Collectors.toMap(Class::getSimpleName, one -> one));
        assertEquals(schema.path("discriminator").path("mapping").size(), records.size());
        List<String> same =
                List.of("Accepted", "Started", "TextDelta", "Progress", "Retrying", "Done", "Failed", "Cancelled");
        for (String name : same) {
            assertSameFields(schema, schema.path("$defs").path(name), records.get(name), Set.of("type"));
        }
        assertSameFields(schema, schema.at("/$defs/TranscriptReady"), Event.Transcript.class, Set.of("type"));
        assertSameFields(schema, schema.at("/$defs/ContextReady"), Event.Context.class, Set.of("type"));
        assertSameFields(schema, schema.at("/$defs/AudioReady"), Event.Audio.class, Set.of("type"));
    }

    @Test
    void goldenMessagesAreReadAndWrittenAgain() throws Exception {
        for (Class<? extends MaeariRequest<?>> type : REQUESTS) {
            ObjectNode golden = (ObjectNode) Project.schema("golden/" + blank(type).task() + ".json");
            JsonNode request = Json.MAPPER.readTree(golden.path("body").asText()).at("/0/0");
            FakeRedis redis = new FakeRedis();
            MaeariRequest<?> typed = Json.MAPPER.treeToValue(request, type);
            MaeariClient.builder(redis).build().submit(typed, SubmitOptions.DEFAULTS.withJobId("spring.0001"));
            List<String> arguments = redis.calls.get(0);
            ObjectNode written = (ObjectNode) Json.MAPPER.readTree(arguments.get(9));
            assertEquals(
                    Json.MAPPER.readTree(golden.path("body").asText()),
                    Json.MAPPER.readTree(written.path("body").asText()));
            ((ObjectNode) golden.path("headers")).put("lang", "java");
            ((ObjectNode) golden.path("properties")).set("delivery_tag", written.at("/properties/delivery_tag"));
            assertEquals(golden.without("body"), written.without("body"));
            assertEquals(List.of("maeari:", "spring.0001", blank(type).task()), arguments.subList(0, 3));
            assertEquals(golden.at("/properties/delivery_info/routing_key").asText(), arguments.get(3));
            assertEquals(List.of("0", "acme", "0", "0"), arguments.subList(4, 8));
            JsonNode entry = Project.schema("catalog.json").path(typed.task());
            assertEquals(entry.path("max_attempts").asText(), arguments.get(8));
        }
    }

    @Test
    void theSignedMessageOfTheContractIsSignedInTheSameWay() throws Exception {
        JsonNode signing = Project.schema("signing.json");
        JsonNode message = signing.path("message");
        String signature = new MessageSigner(signing.path("key").asText())
                .sign(
                        message.at("/headers/id").asText(),
                        message.at("/headers/task").asText(),
                        message.at("/headers/deadline_ms").asLong(),
                        message.path("body").asText());
        assertEquals(message.at("/headers/signature").asText(), signature);
    }

    @Test
    void everyCodeOfTheClusterHasItsException() throws Exception {
        Project.schema("errors.json").fieldNames().forEachRemaining(code -> {
            JobEndedException error = JobEndedException.of("j", new Fault(code, "m", "s", null, false));
            assertEquals(code, error.code());
        });
        assertInstanceOf(
                io.maeari.client.error.JobRejectedException.class,
                JobEndedException.of("j", new Fault("unknown_pack", "m", "s", "pack", false)));
        assertInstanceOf(
                io.maeari.client.error.JobFailedException.class,
                JobEndedException.of("j", new Fault("a_code_of_tomorrow", "m", "s", null, false)));
    }

    /** Recursively: lists, maps and nested records too. */
    private static void assertSameFields(JsonNode root, JsonNode schema, Class<?> type, Set<String> notOurs) {
        Set<String> wire = new TreeSet<>();
        schema.path("properties").fieldNames().forEachRemaining(wire::add);
        wire.removeAll(notOurs);
        Set<String> ours = new TreeSet<>();
        for (RecordComponent component : type.getRecordComponents()) {
            String name = component.getName().replaceAll("([A-Z])", "_$1").toLowerCase(Locale.ROOT);
            ours.add(name);
            Class<?> inner = innerRecord(component.getGenericType());
            if (inner != null) {
                JsonNode reference = schema.path("properties").path(name).findValue("$ref");
                assertTrue(reference != null, type + "." + name + " is no object on the wire");
                assertSameFields(root, root.at(reference.asText().substring(1)), inner, Set.of());
            }
        }
        assertEquals(wire, ours, type.toString());
        assertWireNames(type, ours);
    }

    /** Jackson must know the components under those names. */
    private static void assertWireNames(Class<?> type, Set<String> names) {
        Set<String> known = new TreeSet<>();
        Json.MAPPER
                .getDeserializationConfig()
                .introspect(Json.MAPPER.constructType(type))
                .findProperties()
                .forEach(property -> known.add(property.getName()));
        known.remove("type");
        assertEquals(names, known, type + " in Jackson's eyes");
    }

    private static Class<?> innerRecord(Type type) {
        if (type instanceof ParameterizedType generic) {
            return innerRecord(generic.getActualTypeArguments()[generic.getActualTypeArguments().length - 1]);
        }
        return type instanceof Class<?> plain && plain.isRecord() ? plain : null;
    }

    private static <Q extends MaeariRequest<?>> Q blank(Class<Q> type) throws IOException {
        return Json.MAPPER.readValue("{}", type);
    }
}
