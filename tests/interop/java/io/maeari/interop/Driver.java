package io.maeari.interop;

import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.maeari.client.BlobRef;
import io.maeari.client.Blobs;
import io.maeari.client.EventStream;
import io.maeari.client.FolderBlobStore;
import io.maeari.client.Job;
import io.maeari.client.MaeariClient;
import io.maeari.client.MessageSigner;
import io.maeari.client.Priority;
import io.maeari.client.RedisPort;
import io.maeari.client.SubmitOptions;
import io.maeari.client.error.BlobException;
import io.maeari.client.error.InvalidRequestException;
import io.maeari.client.error.JobEndedException;
import io.maeari.client.error.MaeariException;
import io.maeari.client.event.Event;
import io.maeari.client.request.EmbedRequest;
import io.maeari.client.request.EnrolRequest;
import io.maeari.client.request.GenerateRequest;
import io.maeari.client.request.JsonRequest;
import io.maeari.client.request.KnowledgeAddRequest;
import io.maeari.client.request.KnowledgeDeleteRequest;
import io.maeari.client.request.KnowledgeListRequest;
import io.maeari.client.request.KnowledgeReembedRequest;
import io.maeari.client.request.MaeariRequest;
import io.maeari.client.request.RetrieveRequest;
import io.maeari.client.request.Sampling;
import io.maeari.client.request.SynthesizeRequest;
import io.maeari.client.request.TrainRequest;
import io.maeari.client.request.TranscribeRequest;
import io.maeari.client.request.TurnRequest;
import io.maeari.client.resp.SocketRedisPort;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.reflect.Proxy;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

/**
 * The Java client as a process that tests talk to: a JSON object a line comes in, one with the same {@code id} goes out.
 * Commands run at once, each in a thread of its own; what they do is in the methods below.
 */
public final class Driver {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final ObjectMapper STRICT = JSON.copy().enable(DeserializationFeature.FAIL_ON_UNKNOWN_PROPERTIES);
    private static final Map<String, Class<? extends MaeariRequest<?>>> TYPES = Map.ofEntries(
            Map.entry("turns.start", TurnRequest.class),
            Map.entry("llm.generate", GenerateRequest.class),
            Map.entry("stt.transcribe", TranscribeRequest.class),
            Map.entry("tts.synthesize", SynthesizeRequest.class),
            Map.entry("tts.enrol", EnrolRequest.class),
            Map.entry("rag.embed", EmbedRequest.class),
            Map.entry("rag.retrieve", RetrieveRequest.class),
            Map.entry("knowledge.add", KnowledgeAddRequest.class),
            Map.entry("knowledge.list", KnowledgeListRequest.class),
            Map.entry("knowledge.delete", KnowledgeDeleteRequest.class),
            Map.entry("knowledge.reembed", KnowledgeReembedRequest.class),
            Map.entry("training.run", TrainRequest.class));

    private final MaeariClient client;
    private final String application;
    private final String secret;
    private final Blobs blobs;
    private final PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);

    private Driver(String url, String blobs, String application, String secret) {
        this.application = application;
        this.secret = secret;
        this.client = client(new SocketRedisPort(url));
        this.blobs = new Blobs(new FolderBlobStore(Path.of(blobs)));
    }

    private MaeariClient client(RedisPort redis) {
        MessageSigner signer = secret.isEmpty() ? null : new MessageSigner(secret);
        return MaeariClient.builder(redis).application(application).tenant("t").signer(signer).build();
    }

    /**
     * Serves until its input ends.
     *
     * @param arguments URL of Redis, folder of blobs, name of the application, secret (may be empty)
     * @throws IOException when its input breaks
     */
    public static void main(String[] arguments) throws IOException {
        Driver driver = new Driver(arguments[0], arguments[1], arguments[2], arguments[3]);
        ExecutorService threads = Executors.newCachedThreadPool();
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            JsonNode command = JSON.readTree(line);
            threads.execute(() -> driver.serve(command));
        }
        threads.shutdownNow();
        driver.client.close();
    }

    private void serve(JsonNode command) {
        ObjectNode answer = JSON.createObjectNode();
        answer.set("id", command.path("id"));
        try {
            answer.set("ok", JSON.valueToTree(run(command)));
        } catch (MaeariException error) {
            answer.set("error", described(error));
        } catch (IOException | RuntimeException error) {
            error.printStackTrace();
            answer.putObject("error").put("class", error.toString());
        }
        synchronized (out) {
            out.println(answer);
        }
    }

    private Object run(JsonNode command) throws IOException {
        return switch (command.path("do").asText()) {
            case "submit" -> submit(client, command);
            case "arguments" -> arguments(command);
            case "follow" -> follow(command);
            case "result" -> client.result(job(command), resultType(command), timeout(command));
            case "cancel" -> client.cancel(job(command));
            case "keep_alive" -> keepAlive(command);
            case "flood" -> flood(command);
            case "upload" -> upload(command);
            case "fetch" -> fetch(command);
            case "ping" -> ping();
            default -> throw new IllegalArgumentException("unknown command " + command);
        };
    }

    /** What the enqueue script would be given; nothing is sent. */
    private List<?> arguments(JsonNode command) throws IOException {
        List<Object> given = new ArrayList<>();
        Object port = Proxy.newProxyInstance(
                Driver.class.getClassLoader(), new Class<?>[] {RedisPort.class}, (self, method, arguments) -> {
                    given.addAll((List<?>) arguments[2]);
                    return List.of("ok");
                });
        submit(client((RedisPort) port), command);
        return given;
    }

    private static Map<String, Object> submit(MaeariClient client, JsonNode command) throws IOException {
        Job<?> job = client.submit(request(command), options(command));
        return Map.of("job_id", job.id(), "created", job.created());
    }

    /** A request is read as strictly as a compiler would; {@code raw} takes any fields. */
    private static MaeariRequest<?> request(JsonNode command) throws IOException {
        String task = command.path("task").asText();
        JsonNode request = command.path("request");
        if (command.path("raw").asBoolean()) {
            Map<String, Object> fields = new HashMap<>();
            request.fields().forEachRemaining(field -> fields.put(field.getKey(), field.getValue()));
            return new JsonRequest(task, fields);
        }
        return STRICT.treeToValue(request, TYPES.get(task));
    }

    private static SubmitOptions options(JsonNode command) {
        return new SubmitOptions(
                command.hasNonNull("job_id") ? job(command) : null,
                command.path("batch").asBoolean() ? Priority.BATCH : Priority.INTERACTIVE,
                command.has("deadline_ms") ? Duration.ofMillis(command.path("deadline_ms").asLong()) : null,
                command.path("presence").asBoolean());
    }

    /** The events behind {@code after}, to the last or to the first of the type {@code until}. */
    private List<Event> follow(JsonNode command) {
        List<Event> found = new ArrayList<>();
        try (EventStream events = client.follow(job(command), command.path("after").asLong(), timeout(command))) {
            for (Event event : events) {
                found.add(event);
                if (event.type().equals(command.path("until").asText())) {
                    break;
                }
            }
        }
        return found;
    }

    /** {@code count} turns at once, every tenth one spoken; each one's events. */
    private Map<String, List<Event>> flood(JsonNode command) {
        List<Job<?>> jobs = new ArrayList<>();
        for (int number = 0; number < command.path("count").asInt(); number++) {
            TurnRequest turn = TurnRequest.text("artist", "flood-" + number, "질문 " + number + " 🌊")
                    .withTenant("t" + number % 20)
                    .withSampling(Sampling.maxTokens(12))
                    .withSpeech(number % 10 == 0);
            jobs.add(client.submit(turn, SubmitOptions.DEFAULTS.withJobId("flood." + number)));
        }
        Map<String, EventStream> streams = new LinkedHashMap<>();
        jobs.forEach(job -> streams.put(job.id(), job.events(timeout(command))));
        Map<String, List<Event>> found = new LinkedHashMap<>();
        streams.forEach((id, events) -> {
            List<Event> heard = new ArrayList<>();
            events.forEach(heard::add);
            found.put(id, heard);
        });
        return found;
    }

    private boolean keepAlive(JsonNode command) {
        client.keepAlive(job(command));
        return true;
    }

    private boolean ping() {
        client.ping();
        return true;
    }

    private BlobRef upload(JsonNode command) {
        byte[] data = Base64.getDecoder().decode(command.path("data").asText());
        return blobs.upload("t", data, command.path("mime").asText());
    }

    private String fetch(JsonNode command) throws IOException {
        BlobRef ref = JSON.treeToValue(command.path("ref"), BlobRef.class);
        return Base64.getEncoder().encodeToString(blobs.fetch("t", ref));
    }

    private static String job(JsonNode command) {
        return command.path("job_id").asText();
    }

    private static Duration timeout(JsonNode command) {
        return Duration.ofMillis(command.path("timeout_ms").asLong(60_000));
    }

    private static Class<?> resultType(JsonNode command) throws IOException {
        MaeariRequest<?> blank = STRICT.readValue("{}", TYPES.get(command.path("task").asText()));
        return blank.resultType();
    }

    private static ObjectNode described(MaeariException error) {
        ObjectNode found = JSON.createObjectNode();
        found.put("class", error.getClass().getSimpleName()).put("code", error.code()).put("message", error.getMessage());
        error.jobId().ifPresent(id -> found.put("job_id", id));
        error.retryAfter().ifPresent(after -> found.put("retry_after_ms", after.toMillis()));
        if (error instanceof JobEndedException ended) {
            found.put("field", ended.fault().field()).put("stage", ended.fault().stage());
        } else if (error instanceof InvalidRequestException refused) {
            found.put("field", refused.field());
        } else if (error instanceof BlobException blob) {
            found.put("cause", String.valueOf(blob.getCause()));
        }
        return found;
    }
}
