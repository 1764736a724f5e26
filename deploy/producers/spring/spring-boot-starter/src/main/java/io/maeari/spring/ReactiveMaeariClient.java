package io.maeari.spring;

import io.maeari.client.Job;
import io.maeari.client.JobListener;
import io.maeari.client.MaeariClient;
import io.maeari.client.SubmitOptions;
import io.maeari.client.Subscription;
import io.maeari.client.error.JobEndedException;
import io.maeari.client.error.MaeariException;
import io.maeari.client.event.Event;
import io.maeari.client.request.MaeariRequest;
import reactor.core.publisher.Flux;
import reactor.core.publisher.FluxSink;
import reactor.core.publisher.Mono;
import reactor.core.scheduler.Schedulers;

/**
 * {@link MaeariClient} for reactive code. All subscribers of an instance share one reader and one connection; whoever
 * unsubscribes hears no more, while the job goes on until it is cancelled.
 */
public final class ReactiveMaeariClient {
    private final MaeariClient client;

    /**
     * Over a client.
     *
     * @param client that does the work
     */
    public ReactiveMaeariClient(MaeariClient client) {
        this.client = client;
    }

    /**
     * Hand in a job, once for each subscriber: give {@code options} an id where that may happen twice.
     *
     * @param request what to do
     * @param options how
     * @param <R> what it answers
     * @return the job, queued; errors as of {@link MaeariClient#submit}
     */
    public <R> Mono<Job<R>> submit(MaeariRequest<R> request, SubmitOptions options) {
        return Mono.fromCallable(() -> client.submit(request, options)).subscribeOn(Schedulers.boundedElastic());
    }

    /**
     * A job's events. Lost connections are mended behind the scenes.
     *
     * @param jobId the job
     * @param after the number of the last event that is known, 0 for all
     * @return completes behind the terminal event; operators may block
     */
    public Flux<Event> events(String jobId, long after) {
        return Flux.<Event>create(sink -> follow(jobId, after, sink)).publishOn(Schedulers.boundedElastic());
    }

    private void follow(String jobId, long after, FluxSink<Event> sink) {
        Subscription subscription = client.follow(jobId, after, new JobListener() {
            @Override
            public void onEvent(Event event) {
                sink.next(event);
                if (event.terminal()) {
                    sink.complete();
                }
            }

            @Override
            public void onError(MaeariException error) {
                sink.error(error);
            }
        });
        sink.onDispose(subscription::close);
    }

    /**
     * A job's result.
     *
     * @param job the job
     * @param <R> what it answers
     * @return one result, or a {@link JobEndedException}
     */
    public <R> Mono<R> result(Job<R> job) {
        return events(job.id(), 0).filter(Event::terminal).next().map(last -> {
            if (last instanceof Event.Done done) {
                return job.result(done);
            }
            throw JobEndedException.of(
                    job.id(), last instanceof Event.Failed failed ? failed.fault() : ((Event.Cancelled) last).fault());
        });
    }

    /**
     * Stop a job, in mid-word if need be.
     *
     * @param jobId the job
     * @return false when it had ended
     */
    public Mono<Boolean> cancel(String jobId) {
        return Mono.fromCallable(() -> client.cancel(jobId)).subscribeOn(Schedulers.boundedElastic());
    }
}
