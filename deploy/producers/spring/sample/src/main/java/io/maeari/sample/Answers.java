package io.maeari.sample;

import io.maeari.client.Blobs;
import io.maeari.client.Presence;
import io.maeari.client.error.MaeariException;
import io.maeari.client.event.Event;
import io.maeari.spring.ReactiveMaeariClient;
import java.time.Duration;
import java.util.Base64;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import org.springframework.http.codec.ServerSentEvent;
import org.springframework.stereotype.Component;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;
import reactor.core.publisher.SignalType;

/** A job's events as the browser takes them; when nobody listens any more, the job is cancelled. */
@Component
class Answers {
    /** Browsers come back by themselves after a lost connection; that long a job waits for them. */
    static final Duration GRACE = Duration.ofSeconds(3);

    private static final Logger LOG = LoggerFactory.getLogger(Answers.class);

    private final ReactiveMaeariClient maeari;
    private final Blobs blobs;
    private final Presence presence;
    private final Map<String, Integer> listeners = new ConcurrentHashMap<>();

    Answers(ReactiveMaeariClient maeari, Blobs blobs, Presence presence) {
        this.maeari = maeari;
        this.blobs = blobs;
        this.presence = presence;
    }

    Flux<ServerSentEvent<Object>> follow(String id, long after) {
        return maeari.events(id, after)
                .map(this::told)
                .onErrorResume(MaeariException.class, error -> Flux.just(failure(error)))
                .doOnSubscribe(subscription -> come(id))
                .doFinally(signal -> leave(id, signal));
    }

    private void come(String id) {
        listeners.merge(id, 1, Integer::sum);
        presence.attend(id);
    }

    private void leave(String id, SignalType signal) {
        boolean last = listeners.computeIfPresent(id, (key, count) -> count == 1 ? null : count - 1) == null;
        if (signal != SignalType.CANCEL) {
            presence.leave(id);
        } else if (last) {
            Mono.delay(GRACE)
                    .filter(over -> !listeners.containsKey(id))
                    .doOnNext(over -> presence.leave(id))
                    .flatMap(over -> maeari.cancel(id))
                    .subscribe(
                            stopped -> LOG.info("nobody listens to {}: cancelled={}", id, stopped),
                            error -> LOG.warn("{} could not be cancelled: {}", id, error.toString()));
        }
    }

    private ServerSentEvent<Object> told(Event event) {
        Object data = event instanceof Event.Audio audio ? sound(audio) : event;
        return ServerSentEvent.builder(data)
                .id(Long.toString(event.seq()))
                .event(event.type())
                .build();
    }

    /** A sentence with its bytes, small enough to travel within the event. */
    private Map<String, Object> sound(Event.Audio audio) {
        byte[] bytes = blobs.fetch(QuestionController.TENANT, audio.audio());
        String data = "data:audio/wav;base64," + Base64.getEncoder().encodeToString(bytes);
        return Map.of("sentence", audio.sentence(), "text", audio.text(), "url", data);
    }

    /** An event of a type that no job has, since the browser closes the stream at an error of HTTP. */
    private static ServerSentEvent<Object> failure(MaeariException error) {
        Object fault = Map.of("fault", Map.of("code", error.code(), "message", error.getMessage()));
        return ServerSentEvent.builder(fault).event("failed").build();
    }
}
