package io.maeari.spring;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.maeari.client.NoScriptException;
import io.maeari.client.ScriptReply;
import io.maeari.client.StreamConnection;
import io.maeari.client.StreamEntry;
import io.maeari.client.error.BrokerRefusedException;
import io.maeari.client.error.BrokerUnavailableException;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.time.Duration;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Nested;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledIfEnvironmentVariable;
import org.springframework.dao.QueryTimeoutException;
import org.springframework.data.redis.RedisConnectionFailureException;
import org.springframework.data.redis.RedisSystemException;
import org.springframework.data.redis.connection.RedisStandaloneConfiguration;
import org.springframework.data.redis.connection.lettuce.LettuceConnectionFactory;
import org.springframework.data.redis.core.StringRedisTemplate;

class SpringRedisPortTest {
    private static RuntimeException translated(String answer) {
        return SpringRedisPort.translation(
                new RedisSystemException("Error in execution", new IllegalStateException(answer)));
    }

    @Test
    void whatRedisAnswersDecides() {
        assertThat(translated("NOSCRIPT No matching script. Please use EVAL.")).isInstanceOf(NoScriptException.class);
        assertThat(translated("NOPERM this user has no permissions")).isInstanceOf(BrokerRefusedException.class);
        assertThat(translated("READONLY You can't write against a read only replica"))
                .isInstanceOf(BrokerUnavailableException.class);
    }

    @Test
    void troubleOnTheWayIsTrouble() {
        assertThat(SpringRedisPort.translation(new QueryTimeoutException("Redis command timed out")))
                .isInstanceOf(BrokerUnavailableException.class);
        assertThat(SpringRedisPort.translation(new RedisConnectionFailureException("Unable to connect to Redis")))
                .isInstanceOf(BrokerUnavailableException.class);
    }

    /** At a Redis that may be written to: TEST_REDIS_PORT says where on this machine. */
    @Nested
    @EnabledIfEnvironmentVariable(named = "TEST_REDIS_PORT", matches = "\\d+")
    class AtARealRedis {
        private final String stream = "port-test:" + UUID.randomUUID();
        private LettuceConnectionFactory factory;
        private StringRedisTemplate template;
        private SpringRedisPort port;

        @BeforeEach
        void connect() {
            int number = Integer.parseInt(System.getenv("TEST_REDIS_PORT"));
            factory = new LettuceConnectionFactory(new RedisStandaloneConfiguration("127.0.0.1", number));
            factory.afterPropertiesSet();
            factory.start();
            template = new StringRedisTemplate(factory);
            port = new SpringRedisPort(template);
        }

        @AfterEach
        void close() {
            template.delete(List.of(stream, stream + ":other"));
            factory.destroy();
        }

        private String load(String script) throws Exception {
            port.scriptLoad(script);
            byte[] digest = MessageDigest.getInstance("SHA-1").digest(script.getBytes(StandardCharsets.UTF_8));
            return HexFormat.of().formatHex(digest);
        }

        @Test
        void scriptsAnswerListsAndValues() throws Exception {
            assertThat(port.evalSha(load("return {ARGV[1], 42}"), ScriptReply.LIST, List.of("안녕 🌊")))
                    .containsExactly("안녕 🌊", "42");
            assertThat(port.evalSha(load("return ARGV[1]"), ScriptReply.VALUE, List.of("done"))).containsExactly("done");
            assertThatThrownBy(() -> port.evalSha("0".repeat(40), ScriptReply.LIST, List.of()))
                    .isInstanceOf(NoScriptException.class);
        }

        @Test
        void valuesExpireAndMissingOnesAreNull() {
            port.ping();
            port.setExpiring(stream, "1", Duration.ofSeconds(15));
            assertThat(port.get(stream)).isEqualTo("1");
            assertThat(template.getExpire(stream)).isBetween(1L, 15L);
            assertThat(port.get(stream + ":other")).isNull();
            assertThat(port.hashGet(stream + ":other", "state")).isNull();
        }

        @Test
        void manyStreamsAreReadAtOnce() {
            template.opsForStream().add(stream, Map.of("type", "accepted", "data", "안녕 🌊"));
            template.opsForStream().add(stream + ":other", Map.of("type", "done"));
            Map<String, String> positions = Map.of(stream, "0-0", stream + ":other", "0-0");
            try (StreamConnection connection = port.openStreams()) {
                List<StreamEntry> found = connection.read(positions, 10, Duration.ofMillis(100));
                assertThat(found).hasSize(2).extracting(StreamEntry::stream).contains(stream, stream + ":other");
                StreamEntry first = found.stream().filter(one -> one.stream().equals(stream)).findFirst().orElseThrow();
                assertThat(first.fields()).containsEntry("data", "안녕 🌊");
                Map<String, String> behind = Map.of(stream, first.id());
                assertThat(connection.read(behind, 10, Duration.ofMillis(10))).isEmpty();
            }
        }
    }
}
