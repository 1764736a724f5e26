package io.maeari.client.request;

import com.fasterxml.jackson.annotation.JsonInclude;

/**
 * One message of a conversation.
 *
 * @param role {@code system}, {@code user} or {@code assistant}
 * @param content its text
 */
@JsonInclude(JsonInclude.Include.NON_NULL)
public record Message(String role, String content) {
    /**
     * What a person says.
     *
     * @param content the text
     * @return the message
     */
    public static Message user(String content) {
        return new Message("user", content);
    }

    /**
     * What the model is told to be.
     *
     * @param content the text
     * @return the message
     */
    public static Message system(String content) {
        return new Message("system", content);
    }
}
