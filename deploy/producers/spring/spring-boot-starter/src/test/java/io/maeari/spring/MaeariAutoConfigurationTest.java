package io.maeari.spring;

import static org.assertj.core.api.Assertions.assertThat;

import io.maeari.client.BlobStore;
import io.maeari.client.Blobs;
import io.maeari.client.ClientObserver;
import io.maeari.client.FolderBlobStore;
import io.maeari.client.MaeariClient;
import io.maeari.client.Presence;
import io.maeari.client.RedisPort;
import io.maeari.client.SubmitOptions;
import io.maeari.client.request.EmbedRequest;
import io.micrometer.core.instrument.MeterRegistry;
import io.micrometer.core.instrument.binder.MeterBinder;
import io.micrometer.core.instrument.simple.SimpleMeterRegistry;
import org.junit.jupiter.api.Test;
import org.springframework.boot.actuate.health.HealthIndicator;
import org.springframework.boot.actuate.health.Status;
import org.springframework.boot.autoconfigure.AutoConfigurations;
import org.springframework.boot.autoconfigure.data.redis.RedisAutoConfiguration;
import org.springframework.boot.test.context.runner.ApplicationContextRunner;

class MaeariAutoConfigurationTest {
    private final ApplicationContextRunner bare = new ApplicationContextRunner()
            .withConfiguration(AutoConfigurations.of(
                    MaeariAutoConfiguration.class,
                    MaeariHealthAutoConfiguration.class,
                    MaeariMetricsAutoConfiguration.class));
    private final ApplicationContextRunner stubbed = bare.withBean(StubPort.class, StubPort::new);

    @Test
    void aClientSpeaksThroughSpringsOwnConnection() {
        bare.withConfiguration(AutoConfigurations.of(RedisAutoConfiguration.class)).run(context -> {
            assertThat(context).hasSingleBean(RedisPort.class).hasSingleBean(MaeariClient.class);
            assertThat(context.getBean(RedisPort.class)).isInstanceOf(SpringRedisPort.class);
        });
    }

    @Test
    void whatBelongsToTheClientIsThere() {
        stubbed.run(context -> assertThat(context)
                .hasNotFailed()
                .hasSingleBean(MaeariClient.class)
                .hasSingleBean(ReactiveMaeariClient.class)
                .hasSingleBean(Presence.class)
                .hasBean("maeariHealthIndicator")
                .doesNotHaveBean(Blobs.class)
                .doesNotHaveBean(ClientObserver.class));
    }

    @Test
    void withoutRedisOrWhenItIsSwitchedOffThereIsNoClient() {
        bare.run(context -> assertThat(context).hasNotFailed().doesNotHaveBean(MaeariClient.class));
        stubbed.withPropertyValues("maeari.enabled=false")
                .run(context -> assertThat(context).hasNotFailed().doesNotHaveBean(MaeariClient.class));
    }

    @Test
    void propertiesReachTheClient() {
        stubbed.withPropertyValues(
                        "maeari.prefix=other:",
                        "maeari.application=shop",
                        "maeari.tenant=acme",
                        "maeari.signing-key=0123456789abcdef0123456789abcdef",
                        "maeari.patience=1s",
                        "maeari.block=50ms")
                .run(context -> {
                    String id = context.getBean(MaeariClient.class).submit(EmbedRequest.of("안녕")).id();
                    assertThat(id).startsWith("shop.");
                    assertThat(context.getBean(StubPort.class).calls.get(0))
                            .startsWith("other:", id, "rag.embed", "rag", "0", "acme", "900000")
                            .last()
                            .asString()
                            .contains("\"signature\":\"v1=");
                });
    }

    @Test
    void aShortSigningKeyStopsTheApplication() {
        stubbed.withPropertyValues("maeari.signing-key=short").run(context -> assertThat(context).hasFailed());
    }

    @Test
    void aFolderForBlobsIsUsedUnlessTheApplicationHasAStore() {
        stubbed.withPropertyValues("maeari.blob-folder=/tmp/blobs").run(context -> {
            assertThat(context).hasSingleBean(Blobs.class);
            assertThat(context.getBean(BlobStore.class)).isInstanceOf(FolderBlobStore.class);
        });
        stubbed.withBean(BlobStore.class, () -> new BlobStore() {
                    @Override
                    public void write(String key, byte[] data, String mime) {}

                    @Override
                    public byte[] read(String key) {
                        return new byte[0];
                    }
                })
                .withPropertyValues("maeari.blob-folder=/tmp/blobs")
                .run(context -> assertThat(context.getBean(BlobStore.class)).isNotInstanceOf(FolderBlobStore.class));
    }

    @Test
    void healthIsThatOfRedis() {
        stubbed.run(context -> {
            HealthIndicator indicator = context.getBean("maeariHealthIndicator", HealthIndicator.class);
            assertThat(indicator.health().getStatus()).isEqualTo(Status.UP);
            context.getBean(StubPort.class).down = true;
            assertThat(indicator.health().getStatus()).isEqualTo(Status.DOWN);
        });
        stubbed.withPropertyValues("management.health.maeari.enabled=false")
                .run(context -> assertThat(context).doesNotHaveBean("maeariHealthIndicator"));
    }

    @Test
    void metricsCountWhatTheClientDoes() {
        stubbed.withBean(MeterRegistry.class, SimpleMeterRegistry::new).run(context -> {
            assertThat(context).hasSingleBean(MicrometerObserver.class).hasSingleBean(MeterBinder.class);
            MeterRegistry registry = context.getBean(MeterRegistry.class);
            context.getBean(MeterBinder.class).bindTo(registry);
            context.getBean(MaeariClient.class).submit(EmbedRequest.of("안녕"), SubmitOptions.DEFAULTS);
            assertThat(registry.get("maeari.jobs.submitted").tag("task", "rag.embed").counter().count()).isEqualTo(1);
            assertThat(registry.get("maeari.followed").gauge().value()).isZero();
        });
    }
}
