package io.maeari.sample;

import static org.assertj.core.api.Assertions.assertThat;
import static org.awaitility.Awaitility.await;

import io.maeari.client.BlobStore;
import io.maeari.client.RedisPort;
import io.maeari.client.ScriptReply;
import io.maeari.client.StreamConnection;
import io.maeari.client.StreamEntry;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CopyOnWriteArrayList;
import org.junit.jupiter.api.Test;
import org.springframework.beans.factory.annotation.Autowired;
import org.springframework.boot.test.autoconfigure.web.reactive.AutoConfigureWebTestClient;
import org.springframework.boot.test.context.SpringBootTest;
import org.springframework.boot.test.context.TestConfiguration;
import org.springframework.context.annotation.Bean;
import org.springframework.core.ParameterizedTypeReference;
import org.springframework.http.MediaType;
import org.springframework.http.codec.ServerSentEvent;
import org.springframework.test.web.reactive.server.WebTestClient;
import reactor.core.publisher.Flux;
import reactor.test.StepVerifier;

@SpringBootTest(webEnvironment = SpringBootTest.WebEnvironment.RANDOM_PORT)
@AutoConfigureWebTestClient(timeout = "20s")
class SampleApplicationTest {
    private static final ParameterizedTypeReference<ServerSentEvent<Map<String, Object>>> EVENT =
            new ParameterizedTypeReference<>() {};

    @Autowired
    private WebTestClient web;

    @Autowired
    private Redis redis;

    @TestConfiguration
    static class Fakes {
        @Bean
        Redis redis() {
            return new Redis();
        }

        @Bean
        BlobStore store() {
            return new BlobStore() {
                @Override
                public void write(String key, byte[] data, String mime) {}

                @Override
                public byte[] read(String key) {
                    return new byte[] {1, 2, 3};
                }
            };
        }
    }

    /** Takes every job; its streams begin alike and, but for endless ones, end. */
    static final class Redis implements RedisPort {
        final List<List<String>> calls = new CopyOnWriteArrayList<>();

        @Override
        public List<String> evalSha(String sha1, ScriptReply reply, List<String> arguments) {
            calls.add(arguments);
            return reply == ScriptReply.VALUE ? List.of("cancelled") : List.of("ok");
        }

        @Override
        public void scriptLoad(String script) {}

        @Override
        public String get(String key) {
            return null;
        }

        @Override
        public String hashGet(String key, String field) {
            return "running";
        }

        @Override
        public void setExpiring(String key, String value, Duration ttl) {}

        @Override
        public void ping() {}

        @Override
        public StreamConnection openStreams() {
            return new StreamConnection() {
                @Override
                public List<StreamEntry> read(Map<String, String> positions, int count, Duration block) {
                    List<StreamEntry> found = new ArrayList<>();
                    positions.forEach((stream, after) -> found.addAll(behind(stream, after)));
                    return found;
                }

                @Override
                public void close() {}
            };
        }

        private static List<StreamEntry> behind(String stream, String after) {
            String blob = "{\"key\":\"default/reply/x.wav\",\"size\":3}";
            List<StreamEntry> all = List.of(
                    entry(stream, 1, "accepted", "{\"task\":\"turns.start\"}"),
                    entry(stream, 2, "text.delta", "{\"offset\":0,\"text\":\"안녕 🌊\"}"),
                    entry(stream, 3, "audio", "{\"sentence\":0,\"text\":\"a\",\"audio\":" + blob + ",\"duration_s\":1}"),
                    entry(stream, 4, "done", "{\"result\":{}}"));
            int end = stream.endsWith("endless") ? 3 : 4;
            int begin = Integer.parseInt(after.substring(0, after.indexOf('-')));
            return all.subList(Math.min(begin, end), end);
        }

        private static StreamEntry entry(String stream, int seq, String type, String data) {
            return new StreamEntry(stream, seq + "-0", Map.of("type", type, "at", "1", "data", data));
        }
    }

    private Flux<ServerSentEvent<Map<String, Object>>> events(String id, String after) {
        return web.get()
                .uri("/questions/{id}/events", id)
                .accept(MediaType.TEXT_EVENT_STREAM)
                .header("Last-Event-ID", after)
                .exchange()
                .expectStatus()
                .isOk()
                .returnResult(EVENT)
                .getResponseBody();
    }

    @Test
    void aWrittenQuestionIsHandedIn() {
        web.post()
                .uri("/questions")
                .contentType(MediaType.APPLICATION_JSON)
                .bodyValue(Map.of("pack", "artist", "session", "s", "text", "안녕 🌊"))
                .exchange()
                .expectStatus()
                .isOk()
                .expectBody()
                .jsonPath("$.id")
                .value(id -> assertThat(id.toString()).startsWith("spring."));
        assertThat(redis.calls.get(redis.calls.size() - 1).get(9)).contains("안녕 🌊");
    }

    @Test
    void aSpokenQuestionIsHandedInByReference() {
        web.post()
                .uri("/questions?pack=artist&session=s")
                .header("Content-Type", "audio/webm;codecs=opus")
                .bodyValue(new byte[] {1, 2, 3})
                .exchange()
                .expectStatus()
                .isOk();
        assertThat(redis.calls.get(redis.calls.size() - 1).get(9)).contains("default/audio/", ".webm");
    }

    @Test
    void textAndSoundComeAsEvents() {
        StepVerifier.create(events("spring.whole", "0"))
                .expectNextMatches(event -> "accepted".equals(event.event()))
                .expectNextMatches(event -> "안녕 🌊".equals(event.data().get("text")) && "2".equals(event.id()))
                .expectNextMatches(event -> event.data().get("url").toString().endsWith(";base64,AQID"))
                .expectNextMatches(event -> "done".equals(event.event()))
                .expectComplete()
                .verify(Duration.ofSeconds(20));
    }

    @Test
    void aBrowserThatComesBackGoesOnBehindWhatItHas() {
        StepVerifier.create(events("spring.again", "3").map(ServerSentEvent::event))
                .expectNext("done")
                .expectComplete()
                .verify(Duration.ofSeconds(20));
    }

    @Test
    void aJobThatNobodyListensToIsCancelled() {
        StepVerifier.create(events("spring.endless", "0")).expectNextCount(3).thenCancel().verify(Duration.ofSeconds(20));
        await().atMost(Duration.ofSeconds(20))
                .until(() -> redis.calls.contains(List.of("maeari:", "spring.endless")));
    }
}
