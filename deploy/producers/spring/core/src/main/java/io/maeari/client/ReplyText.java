package io.maeari.client;

import io.maeari.client.event.Event;

/**
 * The reply so far, by the offset rule: a stage that is run again after a crash goes back to an earlier place. Not for
 * use by several threads.
 */
public final class ReplyText {
    private final StringBuilder text = new StringBuilder();

    /**
     * Take in a piece.
     *
     * @param delta the next event
     * @return the whole reply so far
     */
    public String apply(Event.TextDelta delta) {
        int kept = Math.min(delta.offset(), text.codePointCount(0, text.length()));
        text.setLength(text.offsetByCodePoints(0, kept));
        text.append(delta.text());
        return toString();
    }

    /** The whole reply so far. */
    @Override
    public String toString() {
        return text.toString();
    }
}
