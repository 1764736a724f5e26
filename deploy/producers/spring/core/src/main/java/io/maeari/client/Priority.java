package io.maeari.client;

/** An interactive job is served before any batch job of its queue. */
public enum Priority {
    /** Somebody waits for it. */
    INTERACTIVE(0),
    /** Nobody waits for it. */
    BATCH(9);

    private final int level;

    Priority(int level) {
        this.level = level;
    }

    int level() {
        return level;
    }
}
