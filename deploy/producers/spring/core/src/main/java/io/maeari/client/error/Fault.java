package io.maeari.client.error;

/**
 * How a job's failure travels.
 *
 * @param code for programs, for example {@code unknown_pack}; the list is in the wire contract
 * @param message for people, in English
 * @param stage the task that failed, for example {@code stt.transcribe}
 * @param field the offending input, for example {@code sampling.top_p}; null when no single one is
 * @param retryable whether the cluster tried again by itself before it gave up
 */
public record Fault(String code, String message, String stage, String field, boolean retryable) {}
