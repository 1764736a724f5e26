package io.maeari.sample;

import io.maeari.client.BlobRef;
import io.maeari.client.Blobs;
import io.maeari.client.SubmitOptions;
import io.maeari.client.error.BrokerUnavailableException;
import io.maeari.client.error.MaeariException;
import io.maeari.client.error.QueueFullException;
import io.maeari.client.request.TurnRequest;
import io.maeari.spring.ReactiveMaeariClient;
import java.util.Map;
import org.springframework.http.HttpHeaders;
import org.springframework.http.HttpStatus;
import org.springframework.http.MediaType;
import org.springframework.http.ResponseEntity;
import org.springframework.http.codec.ServerSentEvent;
import org.springframework.web.bind.annotation.DeleteMapping;
import org.springframework.web.bind.annotation.ExceptionHandler;
import org.springframework.web.bind.annotation.GetMapping;
import org.springframework.web.bind.annotation.PathVariable;
import org.springframework.web.bind.annotation.PostMapping;
import org.springframework.web.bind.annotation.RequestBody;
import org.springframework.web.bind.annotation.RequestHeader;
import org.springframework.web.bind.annotation.RequestMapping;
import org.springframework.web.bind.annotation.RequestParam;
import org.springframework.web.bind.annotation.RestController;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;
import reactor.core.scheduler.Schedulers;

/** Questions in, events out. A real application would ask who is there, and let nobody follow another's question. */
@RestController
@RequestMapping("/questions")
class QuestionController {
    static final String TENANT = "default";

    private final ReactiveMaeariClient maeari;
    private final Blobs blobs;
    private final Answers answers;

    QuestionController(ReactiveMaeariClient maeari, Blobs blobs, Answers answers) {
        this.maeari = maeari;
        this.blobs = blobs;
        this.answers = answers;
    }

    /** What the page sends. */
    record Question(String pack, String session, String text) {}

    @PostMapping(consumes = MediaType.APPLICATION_JSON_VALUE)
    Mono<Map<String, String>> ask(@RequestBody Question question) {
        return submitted(TurnRequest.text(question.pack(), question.session(), question.text()));
    }

    @PostMapping(consumes = {"audio/*", MediaType.APPLICATION_OCTET_STREAM_VALUE})
    Mono<Map<String, String>> ask(
            @RequestParam String pack,
            @RequestParam String session,
            @RequestHeader(HttpHeaders.CONTENT_TYPE) String mime,
            @RequestBody byte[] recording) {
        Mono<BlobRef> uploaded = Mono.fromCallable(() -> blobs.upload(TENANT, recording, mime));
        return uploaded.subscribeOn(Schedulers.boundedElastic())
                .flatMap(audio -> submitted(TurnRequest.audio(pack, session, audio)));
    }

    /** Presence: should this instance die, the cluster stops the job by itself. */
    private Mono<Map<String, String>> submitted(TurnRequest request) {
        return maeari.submit(request.withTenant(TENANT), SubmitOptions.DEFAULTS.withPresence())
                .map(job -> Map.of("id", job.id()));
    }

    /** The browser names the last event that it has when it comes back after a lost connection. */
    @GetMapping(path = "/{id}/events", produces = MediaType.TEXT_EVENT_STREAM_VALUE)
    Flux<ServerSentEvent<Object>> events(
            @PathVariable String id, @RequestHeader(name = "Last-Event-ID", defaultValue = "0") long after) {
        return answers.follow(id, after);
    }

    @DeleteMapping("/{id}")
    Mono<Boolean> cancel(@PathVariable String id) {
        return maeari.cancel(id);
    }

    @ExceptionHandler
    ResponseEntity<Map<String, String>> full(QueueFullException error) {
        return ResponseEntity.status(HttpStatus.TOO_MANY_REQUESTS)
                .header(HttpHeaders.RETRY_AFTER, seconds(error))
                .body(Map.of("code", error.code()));
    }

    @ExceptionHandler
    ResponseEntity<Map<String, String>> unavailable(BrokerUnavailableException error) {
        return ResponseEntity.status(HttpStatus.SERVICE_UNAVAILABLE)
                .header(HttpHeaders.RETRY_AFTER, seconds(error))
                .body(Map.of("code", error.code()));
    }

    @ExceptionHandler
    ResponseEntity<Map<String, String>> refused(MaeariException error) {
        return ResponseEntity.badRequest().body(Map.of("code", error.code(), "message", error.getMessage()));
    }

    private static String seconds(MaeariException error) {
        long millis = error.retryAfter().orElseThrow().toMillis();
        return Long.toString(Math.max(1, (millis + 999) / 1000));
    }
}
