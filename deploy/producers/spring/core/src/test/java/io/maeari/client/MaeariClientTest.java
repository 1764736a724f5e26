package io.maeari.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import io.maeari.client.error.BrokerUnavailableException;
import io.maeari.client.error.InvalidRequestException;
import io.maeari.client.error.JobCancelledException;
import io.maeari.client.error.JobNotFoundException;
import io.maeari.client.error.JobRejectedException;
import io.maeari.client.error.MaeariException;
import io.maeari.client.error.QueueFullException;
import io.maeari.client.error.RedisErrors;
import io.maeari.client.request.EmbedRequest;
import io.maeari.client.request.JsonRequest;
import io.maeari.client.request.TurnRequest;
import io.maeari.client.result.TurnResult;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.junit.jupiter.api.Test;

class MaeariClientTest {
    private static final TurnRequest TURN = TurnRequest.text("artist", "s", "안녕 🌊");

    private final FakeRedis redis = new FakeRedis();
    private final MaeariClient client =
            MaeariClient.builder(redis).patience(Duration.ofMillis(200)).build();

    private JsonNode message() throws Exception {
        return Json.MAPPER.readTree(redis.calls.get(redis.calls.size() - 1).get(9));
    }

    @Test
    void aScriptThatRedisHasForgottenIsLoadedAgain() {
        client.submit(TURN);
        assertEquals(1, redis.loaded.size());
        redis.loaded.clear();
        assertTrue(client.submit(TURN).created());
        assertEquals(2, redis.calls.size());
    }

    @Test
    void aKnownIdIsTheSameJob() {
        redis.answers.add(FakeRedis.says("dup", "running"));
        Job<TurnResult> job = client.submit(TURN, SubmitOptions.DEFAULTS.withJobId("shop.1"));
        assertFalse(job.created());
        assertEquals("shop.1", job.id());
    }

    @Test
    void aFullQueueSaysWhenToTryAgain() {
        redis.answers.add(FakeRedis.says("full", "1234"));
        QueueFullException error = assertThrows(QueueFullException.class, () -> client.submit(TURN));
        assertEquals("queue_full", error.code());
        assertEquals(Optional.of(Duration.ofMillis(1234)), error.retryAfter());
    }

    @Test
    void aLostAnswerIsAskedForAgainWithTheVerySameMessage() {
        redis.answers.add(FakeRedis.breaks());
        assertTrue(client.submit(TURN).created());
        assertEquals(redis.calls.get(0), redis.calls.get(1));
    }

    @Test
    void whenPatienceEndsTheIdIsToldSoThatTheCallerCanRepeat() {
        for (int number = 0; number < 50; number++) {
            redis.answers.add(FakeRedis.breaks());
        }
        BrokerUnavailableException error = assertThrows(BrokerUnavailableException.class, () -> client.submit(TURN));
        assertTrue(error.jobId().orElseThrow().startsWith("spring."));
        assertTrue(error.retryAfter().isPresent());
    }

    @Test
    void optionsBecomeArguments() throws Exception {
        client.submit(
                TURN.withTenant("acme"),
                new SubmitOptions("a:b", Priority.BATCH, Duration.ofSeconds(5), true));
        List<String> arguments = redis.calls.get(0);
        assertEquals(
                List.of("maeari:", "a:b", "turns.start", "turns", "9", "acme", "5000", "1", "3"),
                arguments.subList(0, 9));
        assertEquals(9, message().at("/properties/priority").asInt());
    }

    @Test
    void theClientsTenantIsThatOfRequestsWithoutOne() throws Exception {
        MaeariClient acme = MaeariClient.builder(redis).tenant("acme").build();
        acme.submit(EmbedRequest.of("안녕"));
        assertEquals("acme", redis.calls.get(0).get(5));
        assertEquals("acme", Json.MAPPER.readTree(message().path("body").asText()).at("/0/0/tenant").asText());
        acme.submit(TURN.withTenant("rival"));
        assertEquals("rival", redis.calls.get(1).get(5));
        client.submit(TURN);
        assertEquals("default", redis.calls.get(2).get(5));
    }

    @Test
    void textTravelsUnchangedAndALoneSurrogateEscaped() throws Exception {
        client.submit(TURN);
        assertTrue(message().path("body").asText().contains("안녕 🌊"));
        client.submit(TurnRequest.text("artist", "s", "a\ud800b"));
        assertTrue(message().path("body").asText().contains("a\\uD800b"));
    }

    @Test
    void anyFieldsCanBeSentForAClusterThatIsNewer() throws Exception {
        client.submit(new JsonRequest("rag.embed", Map.of("texts", List.of("안녕"), "of_tomorrow", true)));
        JsonNode sent = Json.MAPPER.readTree(message().path("body").asText());
        assertTrue(sent.at("/0/0/of_tomorrow").asBoolean());
        assertEquals("안녕", sent.at("/0/0/texts/0").asText());
    }

    @Test
    void wrongIdsAndTasksAreRefusedAtOnce() {
        for (String id : List.of("", "a/b", ".a", "한", "x".repeat(129))) {
            InvalidRequestException error = assertThrows(
                    InvalidRequestException.class,
                    () -> client.submit(TURN, SubmitOptions.DEFAULTS.withJobId(id)));
            assertEquals("job_id", error.field());
        }
        for (String task : List.of("os.system", "turns.finish")) {
            InvalidRequestException error = assertThrows(
                    InvalidRequestException.class, () -> client.submit(new JsonRequest(task, Map.of())));
            assertEquals("unknown_task", error.code());
        }
        assertTrue(redis.calls.isEmpty());
    }

    @Test
    void aSignedMessageCarriesItsDeadlineAndSignature() throws Exception {
        MessageSigner signer = new MessageSigner("비밀 열쇠, 서른두 바이트보다 긴 것");
        MaeariClient signing = MaeariClient.builder(redis).signer(signer).build();
        long before = System.currentTimeMillis();
        signing.submit(TURN, SubmitOptions.DEFAULTS.withJobId("a.1").withDeadline(Duration.ofMinutes(1)));
        JsonNode headers = message().path("headers");
        long deadline = headers.path("deadline_ms").asLong();
        assertTrue(deadline >= before + 60_000 && deadline <= System.currentTimeMillis() + 60_000);
        String expected = signer.sign("a.1", "turns.start", deadline, message().path("body").asText());
        assertEquals(expected, headers.path("signature").asText());
    }

    @Test
    void aSignedJobAlwaysHasADeadlineAndNoneFarOff() throws Exception {
        MessageSigner signer = new MessageSigner("k".repeat(32));
        MaeariClient signing = MaeariClient.builder(redis).signer(signer).build();
        signing.submit(TURN);
        assertEquals("900000", redis.calls.get(0).get(6));
        assertTrue(message().at("/headers/deadline_ms").asLong() >= System.currentTimeMillis() + 890_000);
        SubmitOptions far = SubmitOptions.DEFAULTS.withDeadline(Duration.ofHours(25));
        assertEquals("deadline", assertThrows(InvalidRequestException.class, () -> signing.submit(TURN, far)).field());
        client.submit(TURN, far);
        assertTrue(message().at("/headers/signature").isMissingNode());
        assertTrue(message().at("/headers/deadline_ms").isMissingNode());
    }

    @Test
    void aShortKeyIsRefused() {
        assertThrows(IllegalArgumentException.class, () -> new MessageSigner("k".repeat(31)));
    }

    @Test
    void errorsOfRedisBecomeWhatACallerCanDo() {
        assertEquals("access_denied", code("NOPERM this user has no permissions"));
        assertEquals("access_denied", code("ERR ACL failure in script: No permissions to access a key"));
        assertEquals("broker_unavailable", code("LOADING Redis is loading the dataset in memory"));
        assertEquals("broker_refused", code("WRONGTYPE Operation against a key holding the wrong kind of value"));
    }

    private static String code(String answer) {
        return ((MaeariException) RedisErrors.of(answer, null)).code();
    }

    @Test
    void aStoredResultIsTyped() {
        redis.values.put(
                "celery-task-meta-j",
                "{\"status\":\"SUCCESS\",\"result\":"
                        + "{\"reply\":\"좋아!\",\"ttft_ms\":1.5,\"usage\":{\"prompt_tokens\":3},\"new\":1}}");
        TurnResult result = client.job("j", TurnResult.class).result(Duration.ofSeconds(1));
        assertEquals("좋아!", result.reply());
        assertEquals(3, result.usage().promptTokens());
        assertEquals(1.5, result.ttftMs());
    }

    @Test
    void aStoredFailureBecomesItsException() {
        String meta = "{\"status\":\"%s\",\"result\":{\"exc_type\":\"%s\",\"exc_message\":[\"why\"]}}";
        redis.values.put("celery-task-meta-c", meta.formatted("REVOKED", "cancelled"));
        redis.values.put("celery-task-meta-f", meta.formatted("FAILURE", "unknown_pack"));
        redis.values.put(
                "maeari:job:f fault",
                "{\"code\":\"unknown_pack\",\"message\":\"why\",\"stage\":\"turns.start\",\"field\":\"pack\"}");
        assertThrows(JobCancelledException.class, () -> client.job("c", TurnResult.class).result(Duration.ZERO));
        JobRejectedException error = assertThrows(
                JobRejectedException.class, () -> client.job("f", TurnResult.class).result(Duration.ZERO));
        assertEquals("pack", error.fault().field());
        assertEquals("turns.start", error.fault().stage());
    }

    @Test
    void cancellingSaysWhetherItCameInTime() {
        redis.answers.add(FakeRedis.says("cancelled"));
        redis.answers.add(FakeRedis.says("done"));
        redis.answers.add(FakeRedis.says("unknown"));
        assertTrue(client.cancel("j"));
        assertFalse(client.cancel("j"));
        assertThrows(JobNotFoundException.class, () -> client.cancel("j"));
    }

    @Test
    void presenceIsRefreshedForFifteenSeconds() {
        client.keepAlive("j");
        assertEquals("1 for 15 s", redis.values.get("maeari:presence:j"));
    }
}
