package io.maeari.client.event;

import com.fasterxml.jackson.annotation.JsonIgnoreProperties;
import com.fasterxml.jackson.annotation.JsonProperty;
import io.maeari.client.BlobRef;
import io.maeari.client.error.Fault;
import io.maeari.client.result.Source;
import java.util.List;
import java.util.Map;

/** One entry of a job's stream. Exactly one of {@link Done}, {@link Failed} and {@link Cancelled} ends it. */
public sealed interface Event {
    /**
     * Its number: counts from 1 without gaps; follow again behind it after a break.
     *
     * @return the number
     */
    long seq();

    /**
     * The job.
     *
     * @return its id
     */
    @JsonProperty("job_id")
    String jobId();

    /**
     * When it happened, by the clock of Redis.
     *
     * @return milliseconds since the epoch
     */
    long at();

    /**
     * Its name on the wire.
     *
     * @return for example {@code text.delta}
     */
    @JsonProperty("type")
    String type();

    /**
     * Whether the stream ends with it.
     *
     * @return true for {@code done}, {@code failed} and {@code cancelled}
     */
    default boolean terminal() {
        return this instanceof Done || this instanceof Failed || this instanceof Cancelled;
    }

    /**
     * The job is recorded and queued.
     *
     * @param seq its number
     * @param jobId the job
     * @param at milliseconds since the epoch
     * @param task for example {@code turns.start}
     */
    @JsonIgnoreProperties(ignoreUnknown = true)
    record Accepted(long seq, @JsonProperty("job_id") String jobId, long at, String task) implements Event {
        @Override
        public String type() {
            return "accepted";
        }
    }

    /**
     * A worker has begun a stage.
     *
     * @param seq its number
     * @param jobId the job
     * @param at milliseconds since the epoch
     * @param stage the task of the stage
     * @param attempt from 1; above 1 it is a re-run
     */
    @JsonIgnoreProperties(ignoreUnknown = true)
    record Started(long seq, @JsonProperty("job_id") String jobId, long at, String stage, int attempt)
            implements Event {
        @Override
        public String type() {
            return "started";
        }
    }

    /**
     * The question was understood.
     *
     * @param seq its number
     * @param jobId the job
     * @param at milliseconds since the epoch
     * @param text what was heard, or the text as given
     * @param language for example {@code ko}
     */
    @JsonIgnoreProperties(ignoreUnknown = true)
    record Transcript(long seq, @JsonProperty("job_id") String jobId, long at, String text, String language)
            implements Event {
        @Override
        public String type() {
            return "transcript";
        }
    }

    /**
     * What will be told to the model.
     *
     * @param seq its number
     * @param jobId the job
     * @param at milliseconds since the epoch
     * @param sources best first
     */
    @JsonIgnoreProperties(ignoreUnknown = true)
    record Context(long seq, @JsonProperty("job_id") String jobId, long at, List<Source> sources) implements Event {
        @Override
        public String type() {
            return "context";
        }
    }

    /**
     * New text of the reply. Keep the first {@code offset} characters (code points) of what you have and append
     * {@code text}; {@link io.maeari.client.ReplyText} does it.
     *
     * @param seq its number
     * @param jobId the job
     * @param at milliseconds since the epoch
     * @param offset in Unicode code points
     * @param text what follows
     */
    @JsonIgnoreProperties(ignoreUnknown = true)
    record TextDelta(long seq, @JsonProperty("job_id") String jobId, long at, int offset, String text)
            implements Event {
        @Override
        public String type() {
            return "text.delta";
        }
    }

    /**
     * A sentence was spoken. Play them in the order of {@code sentence}; one that comes again replaces the earlier.
     *
     * @param seq its number
     * @param jobId the job
     * @param at milliseconds since the epoch
     * @param sentence its place, from 0
     * @param text what is said
     * @param audio where the bytes are
     * @param durationS seconds
     */
    @JsonIgnoreProperties(ignoreUnknown = true)
    record Audio(
            long seq,
            @JsonProperty("job_id") String jobId,
            long at,
            int sentence,
            String text,
            BlobRef audio,
            @JsonProperty("duration_s") double durationS)
            implements Event {
        @Override
        public String type() {
            return "audio";
        }
    }

    /**
     * A long job moves on.
     *
     * @param seq its number
     * @param jobId the job
     * @param at milliseconds since the epoch
     * @param stage the task of the stage
     * @param done how many are done
     * @param total of how many
     * @param note may be empty
     * @param loss of a training, or null
     * @param rate learning rate of a training, or null
     * @param etaS seconds that the rest will take, or null
     */
    @JsonIgnoreProperties(ignoreUnknown = true)
    record Progress(
            long seq,
            @JsonProperty("job_id") String jobId,
            long at,
            String stage,
            long done,
            long total,
            String note,
            Double loss,
            Double rate,
            @JsonProperty("eta_s") Double etaS)
            implements Event {
        @Override
        public String type() {
            return "progress";
        }
    }

    /**
     * A stage failed and will be tried again.
     *
     * @param seq its number
     * @param jobId the job
     * @param at milliseconds since the epoch
     * @param fault what happened
     * @param delayMs milliseconds until the next attempt
     */
    @JsonIgnoreProperties(ignoreUnknown = true)
    record Retrying(
            long seq,
            @JsonProperty("job_id") String jobId,
            long at,
            Fault fault,
            @JsonProperty("delay_ms") long delayMs)
            implements Event {
        @Override
        public String type() {
            return "retrying";
        }
    }

    /**
     * The job ended well.
     *
     * @param seq its number
     * @param jobId the job
     * @param at milliseconds since the epoch
     * @param result as JSON; {@link io.maeari.client.Job#result} gives it typed
     */
    @JsonIgnoreProperties(ignoreUnknown = true)
    record Done(long seq, @JsonProperty("job_id") String jobId, long at, Map<String, Object> result) implements Event {
        @Override
        public String type() {
            return "done";
        }
    }

    /**
     * The job ended badly.
     *
     * @param seq its number
     * @param jobId the job
     * @param at milliseconds since the epoch
     * @param fault why
     */
    @JsonIgnoreProperties(ignoreUnknown = true)
    record Failed(long seq, @JsonProperty("job_id") String jobId, long at, Fault fault) implements Event {
        @Override
        public String type() {
            return "failed";
        }
    }

    /**
     * The job was stopped by its caller.
     *
     * @param seq its number
     * @param jobId the job
     * @param at milliseconds since the epoch
     * @param fault with the code {@code cancelled}
     */
    @JsonIgnoreProperties(ignoreUnknown = true)
    record Cancelled(long seq, @JsonProperty("job_id") String jobId, long at, Fault fault) implements Event {
        @Override
        public String type() {
            return "cancelled";
        }
    }
}
