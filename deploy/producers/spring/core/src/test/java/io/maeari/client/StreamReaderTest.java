package io.maeari.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.maeari.client.error.BrokerRefusedException;
import io.maeari.client.error.BrokerUnavailableException;
import io.maeari.client.error.JobNotFoundException;
import io.maeari.client.error.MaeariException;
import io.maeari.client.error.NotEndedException;
import io.maeari.client.error.RedisErrors;
import io.maeari.client.event.Event;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

class StreamReaderTest {
    private static final Duration SOON = Duration.ofSeconds(60);

    private final FakeRedis redis = new FakeRedis();
    private final List<RuntimeException> losses = new ArrayList<>();
    private final MaeariClient client = MaeariClient.builder(redis)
            .block(Duration.ofMillis(1))
            .observer(new ClientObserver() {
                @Override
                public void disconnected(RuntimeException error) {
                    losses.add(error);
                }
            })
            .build();

    @AfterEach
    void close() {
        client.close();
    }

    private List<Event> all(String job, long after) {
        List<Event> found = new ArrayList<>();
        try (EventStream events = client.follow(job, after, SOON)) {
            events.forEach(found::add);
        }
        return found;
    }

    private void turn(String job) {
        redis.add(job, "accepted", "{\"task\":\"turns.start\"}");
        redis.add(job, "text.delta", "{\"offset\":0,\"text\":\"좋아\"}");
        redis.add(job, "done", "{\"result\":{\"reply\":\"좋아\"}}");
    }

    @Test
    void eventsComeInOrderAndTyped() {
        turn("j");
        List<Event> events = all("j", 0);
        assertEquals(new Event.Accepted(1, "j", 1000, "turns.start"), events.get(0));
        assertEquals(new Event.TextDelta(2, "j", 2000, 0, "좋아"), events.get(1));
        assertInstanceOf(Event.Done.class, events.get(2));
        assertEquals(3, events.size());
    }

    @Test
    void aReaderGoesOnBehindWhatItKnows() {
        turn("j");
        assertEquals(List.of(3L), all("j", 2).stream().map(Event::seq).toList());
    }

    @Test
    void unknownTypesAndShapesAreSkipped() {
        redis.add("j", "weather", "{}");
        redis.add("j", "text.delta", "no JSON");
        redis.add("j", "text.delta", "[]");
        redis.add("j", "done", "{\"result\":{},\"news\":1}");
        assertEquals(List.of(4L), all("j", 0).stream().map(Event::seq).toList());
    }

    @Test
    void aLostConnectionIsMendedBehindTheScenes() {
        redis.readErrors.add(new BrokerUnavailableException("gone", null));
        redis.readErrors.add(new IllegalStateException("whatever a library throws"));
        turn("j");
        assertEquals(3, all("j", 0).size());
        assertEquals(2, losses.size());
        assertEquals(3, redis.opened);
        assertTrue(client.connected());
    }

    @Test
    void twoListenersAtDifferentPlacesOfOneStreamHearEachEventOnce() throws Exception {
        BlockingQueue<Event> first = new LinkedBlockingQueue<>();
        BlockingQueue<Event> second = new LinkedBlockingQueue<>();
        client.follow("j", 0, into(first));
        client.follow("j", 2, into(second));
        turn("j");
        assertEquals(List.of(1L, 2L, 3L), List.of(seq(first), seq(first), seq(first)));
        assertEquals(3L, seq(second));
        awaitNobody();
    }

    private static JobListener into(BlockingQueue<Event> queue) {
        return new JobListener() {
            @Override
            public void onEvent(Event event) {
                queue.add(event);
            }

            @Override
            public void onError(MaeariException error) {
                throw error;
            }
        };
    }

    private static long seq(BlockingQueue<Event> queue) throws InterruptedException {
        Event event = queue.poll(SOON.toSeconds(), TimeUnit.SECONDS);
        return event == null ? -1 : event.seq();
    }

    private void awaitNobody() throws InterruptedException {
        long until = System.nanoTime() + SOON.toNanos();
        while (client.following() > 0 && System.nanoTime() < until) {
            Thread.sleep(1);
        }
        assertEquals(0, client.following());
    }

    @Test
    void aListenerThatThrowsHarmsNobodyElse() throws Exception {
        turn("bad");
        client.follow("bad", 0, new JobListener() {
            @Override
            public void onEvent(Event event) {
                throw new IllegalStateException("a mistake of the application, on purpose");
            }

            @Override
            public void onError(MaeariException error) {}
        });
        turn("good");
        assertEquals(3, all("good", 0).size());
        awaitNobody();
    }

    @Test
    void aForbiddenStreamIsToldToItsListenerAlone() {
        redis.forbidden.put("maeari:events:theirs", RedisErrors.of("NOPERM no", null));
        try (EventStream theirs = client.follow("theirs", 0, SOON)) {
            turn("ours");
            assertEquals(3, all("ours", 0).size());
            assertThrows(BrokerRefusedException.class, theirs::hasNext);
            assertFalse(theirs.hasNext());
        }
    }

    @Test
    void aJobThatIsNotThereIsToldAfterAWhile() {
        JobNotFoundException error = assertThrows(JobNotFoundException.class, () -> all("nobody", 0));
        assertEquals("nobody", error.jobId().orElseThrow());
    }

    @Test
    void aStreamThatHasExpiredIsToldAfterAWhile() {
        redis.values.put("maeari:job:old state", "done");
        JobNotFoundException error = assertThrows(JobNotFoundException.class, () -> all("old", 7));
        assertTrue(error.getMessage().contains("behind 7"));
    }

    @Test
    void awaitingEndsWithTheTimeAndLeavesNobodyBehind() {
        redis.values.put("maeari:job:slow state", "running");
        try (EventStream events = client.follow("slow", 0, Duration.ofMillis(30))) {
            assertThrows(NotEndedException.class, events::hasNext);
        }
        assertEquals(0, client.following());
    }

    @Test
    void closingTheClientEndsEverybody() {
        EventStream events = client.follow("j", 0, SOON);
        client.close();
        assertThrows(BrokerUnavailableException.class, events::hasNext);
        assertThrows(BrokerUnavailableException.class, () -> client.follow("k", 0, SOON));
    }
}
