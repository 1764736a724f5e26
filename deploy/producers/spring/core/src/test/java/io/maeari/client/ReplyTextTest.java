package io.maeari.client;

import static org.junit.jupiter.api.Assertions.assertEquals;

import io.maeari.client.event.Event;
import org.junit.jupiter.api.Test;

class ReplyTextTest {
    private final ReplyText reply = new ReplyText();

    private String apply(int offset, String text) {
        return reply.apply(new Event.TextDelta(1, "j", 0, offset, text));
    }

    @Test
    void piecesAreJoined() {
        apply(0, "안녕");
        assertEquals("안녕하세요", apply(2, "하세요"));
    }

    @Test
    void aStageThatIsRunAgainGoesBack() {
        apply(0, "안녕. 오늘은");
        assertEquals("안녕. 내일은", apply(4, "내일은"));
    }

    @Test
    void offsetsCountCodePoints() {
        apply(0, "🌊👋a");
        assertEquals("🌊👋b", apply(2, "b"));
    }

    @Test
    void anOffsetBehindTheEndAppends() {
        assertEquals("b", apply(5, "b"));
    }
}
