package io.maeari.client.error;

import io.maeari.client.NoScriptException;
import java.util.regex.Pattern;

/** For ports: the exception that an error answer of Redis stands for. */
public final class RedisErrors {
    private static final Pattern LATER = Pattern.compile(
            "\\b(OOM|READONLY|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|LOADING|BUSY|MISCONF|NOREPLICAS|UNBLOCKED)\\b");

    private static final Pattern DENIED =
            Pattern.compile("^(NOPERM|NOAUTH|WRONGPASS)\\b|ACL failure in script|user executing the script can't");

    private RedisErrors() {}

    /**
     * What to throw.
     *
     * @param answer the error as Redis wrote it, for example {@code NOSCRIPT No matching script.}
     * @param cause what lies below, or null
     * @return {@link NoScriptException}, {@link BrokerUnavailableException} for what passes by itself, else
     *     {@link BrokerRefusedException}
     */
    public static RuntimeException of(String answer, Throwable cause) {
        if (answer.contains("NOSCRIPT")) {
            return new NoScriptException(answer);
        }
        if (LATER.matcher(answer).find()) {
            return new BrokerUnavailableException(answer, cause);
        }
        String code = DENIED.matcher(answer).find() ? "access_denied" : "broker_refused";
        return new BrokerRefusedException(code, answer, cause);
    }
}
