package io.maeari.client.request;

import com.fasterxml.jackson.annotation.JsonInclude;
import io.maeari.client.result.TrainResult;

/**
 * {@code training.run}: run a recipe. Give it a deadline of hours; the cluster's default is made for turns.
 *
 * @param tenant whose data it is; null: the client's
 * @param recipe of the trainers' folders, without {@code .yaml}
 * @param promote serve the new version of an adapter at once if it passes its evaluation; null: no
 */
@JsonInclude(JsonInclude.Include.NON_NULL)
public record TrainRequest(String tenant, String recipe, Boolean promote) implements MaeariRequest<TrainResult> {
    @Override
    public String task() {
        return "training.run";
    }

    @Override
    public Class<TrainResult> resultType() {
        return TrainResult.class;
    }
}
