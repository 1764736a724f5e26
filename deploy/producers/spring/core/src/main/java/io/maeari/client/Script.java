package io.maeari.client;

import java.nio.charset.StandardCharsets;
import java.util.List;

/** A script of the wire contract: {@code common.lua} and its own file, joined by a newline. */
final class Script {
    static final Script ENQUEUE = new Script("enqueue.lua", ScriptReply.LIST);
    static final Script CANCEL = new Script("cancel.lua", ScriptReply.VALUE);

    private final String text;
    private final String sha1;
    private final ScriptReply reply;

    private Script(String file, ScriptReply reply) {
        this.text = Resources.text("common.lua") + "\n" + Resources.text(file);
        this.sha1 = Digests.hex("SHA-1", text.getBytes(StandardCharsets.UTF_8));
        this.reply = reply;
    }

    List<String> call(RedisPort redis, List<String> arguments) {
        try {
            return redis.evalSha(sha1, reply, arguments);
        } catch (NoScriptException unknown) {
            redis.scriptLoad(text);
            return redis.evalSha(sha1, reply, arguments);
        }
    }
}
