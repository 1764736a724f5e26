package io.maeari.spring;

import io.maeari.client.ClientObserver;
import io.maeari.client.event.Event;
import io.micrometer.core.instrument.MeterRegistry;
import java.time.Duration;

/** What the client does, as Micrometer counts it. Tags are tasks, codes and types of events: never ids, never text. */
public final class MicrometerObserver implements ClientObserver {
    private final MeterRegistry registry;

    /**
     * Into a registry.
     *
     * @param registry of the application
     */
    public MicrometerObserver(MeterRegistry registry) {
        this.registry = registry;
    }

    @Override
    public void submitted(String task, boolean created) {
        registry.counter("maeari.jobs.submitted", "task", task, "created", Boolean.toString(created)).increment();
    }

    @Override
    public void refused(String task, String code) {
        registry.counter("maeari.jobs.refused", "task", task, "code", code).increment();
    }

    @Override
    public void heard(String task, Event event, Duration sinceAccepted) {
        registry.counter("maeari.events", "type", event.type()).increment();
        if (sinceAccepted == null) {
            return;
        }
        if (event.terminal()) {
            registry.timer("maeari.jobs.duration", "task", task, "outcome", event.type()).record(sinceAccepted);
        } else if (event instanceof Event.TextDelta delta && delta.offset() == 0) {
            registry.timer("maeari.jobs.first.text", "task", task).record(sinceAccepted);
        } else if (event instanceof Event.Audio audio && audio.sentence() == 0) {
            registry.timer("maeari.jobs.first.audio", "task", task).record(sinceAccepted);
        }
    }

    @Override
    public void disconnected(RuntimeException error) {
        registry.counter("maeari.reader.disconnects").increment();
    }
}
