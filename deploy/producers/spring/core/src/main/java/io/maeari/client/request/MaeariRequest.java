package io.maeari.client.request;

/**
 * Something to ask of the cluster. The cluster checks it; a mistake comes back as a
 * {@link io.maeari.client.error.JobRejectedException} that names the field.
 *
 * @param <R> what it answers
 */
public sealed interface MaeariRequest<R>
        permits TurnRequest,
                TranscribeRequest,
                GenerateRequest,
                SynthesizeRequest,
                EnrolRequest,
                EmbedRequest,
                RetrieveRequest,
                KnowledgeAddRequest,
                KnowledgeListRequest,
                KnowledgeDeleteRequest,
                KnowledgeReembedRequest,
                TrainRequest,
                JsonRequest {
    /**
     * The task that does it.
     *
     * @return a name of the catalog, for example {@code turns.start}
     */
    String task();

    /**
     * The class of the answer.
     *
     * @return a record of {@code io.maeari.client.result}, or {@code Map}
     */
    Class<R> resultType();
}
