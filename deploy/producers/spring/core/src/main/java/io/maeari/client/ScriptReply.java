package io.maeari.client;

/** What a script answers; some Redis libraries must be told. */
public enum ScriptReply {
    /** A list of strings and whole numbers. */
    LIST,
    /** One string. */
    VALUE
}
