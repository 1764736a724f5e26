package io.maeari.spring;

import static org.assertj.core.api.Assertions.assertThat;

import io.maeari.client.Job;
import io.maeari.client.MaeariClient;
import io.maeari.client.SubmitOptions;
import io.maeari.client.error.JobRejectedException;
import io.maeari.client.event.Event;
import io.maeari.client.request.TurnRequest;
import io.maeari.client.result.TurnResult;
import io.micrometer.core.instrument.simple.SimpleMeterRegistry;
import java.time.Duration;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import reactor.test.StepVerifier;

class ReactiveMaeariClientTest {
    private static final Duration SOON = Duration.ofSeconds(20);

    private final StubPort redis = new StubPort();
    private final SimpleMeterRegistry registry = new SimpleMeterRegistry();
    private final MaeariClient client = MaeariClient.builder(redis)
            .block(Duration.ofMillis(1))
            .observer(new MicrometerObserver(registry))
            .build();
    private final ReactiveMaeariClient reactive = new ReactiveMaeariClient(client);

    @AfterEach
    void close() {
        client.close();
    }

    @Test
    void aTurnIsHeardToItsEndAndTimed() {
        redis.add("j", "accepted", "{\"task\":\"turns.start\"}");
        redis.add("j", "text.delta", "{\"offset\":0,\"text\":\"좋아\"}");
        redis.add("j", "done", "{\"result\":{\"reply\":\"좋아\"}}");
        StepVerifier.create(reactive.events("j", 0).map(Event::type))
                .expectNext("accepted", "text.delta", "done")
                .expectComplete()
                .verify(SOON);
        assertThat(registry.get("maeari.jobs.first.text").timer().totalTime(TimeUnit.SECONDS)).isEqualTo(1);
        assertThat(registry.get("maeari.jobs.duration").tag("outcome", "done").timer().count()).isEqualTo(1);
        StepVerifier.create(reactive.result(client.job("j", TurnResult.class)).map(TurnResult::reply))
                .expectNext("좋아")
                .expectComplete()
                .verify(SOON);
    }

    @Test
    void aFailureBecomesItsException() {
        redis.add("j", "failed", "{\"fault\":{\"code\":\"unknown_pack\",\"message\":\"m\",\"stage\":\"turns.start\"}}");
        StepVerifier.create(reactive.result(client.job("j", TurnResult.class)))
                .expectError(JobRejectedException.class)
                .verify(SOON);
    }

    @Test
    void whoeverUnsubscribesIsForgotten() {
        redis.add("j", "accepted", "{\"task\":\"turns.start\"}");
        StepVerifier.create(reactive.events("j", 0)).expectNextCount(1).thenCancel().verify(SOON);
        assertThat(client.following()).isZero();
    }

    @Test
    void jobsAreHandedInAndCancelled() {
        TurnRequest turn = TurnRequest.text("artist", "s", "안녕");
        StepVerifier.create(reactive.submit(turn, SubmitOptions.DEFAULTS.withJobId("a.1")).map(Job::id))
                .expectNext("a.1")
                .expectComplete()
                .verify(SOON);
        StepVerifier.create(reactive.cancel("a.1")).expectNext(true).expectComplete().verify(SOON);
        assertThat(redis.calls).hasSize(2);
    }
}
