package io.maeari.client;

import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.util.HexFormat;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

/**
 * Signs messages for clusters that ask for it: HMAC-SHA256 over the job's id, its task, its deadline and the hash of
 * its body.
 */
public final class MessageSigner {
    private static final String ALGORITHM = "HmacSHA256";

    private final SecretKeySpec key;

    /**
     * A signer.
     *
     * @param secret the same as the cluster's
     */
    public MessageSigner(String secret) {
        this.key = new SecretKeySpec(secret.getBytes(StandardCharsets.UTF_8), ALGORITHM);
    }

    /**
     * What belongs into the header {@code signature}.
     *
     * @param jobId the job
     * @param task its task
     * @param deadlineMs milliseconds since the epoch, 0 for none
     * @param body the message's {@code body}, as it is
     * @return {@code v1=} and 64 hexadecimal digits
     */
    public String sign(String jobId, String task, long deadlineMs, String body) {
        String hash = Digests.hex("SHA-256", body.getBytes(StandardCharsets.UTF_8));
        String signed = jobId + "\n" + task + "\n" + deadlineMs + "\n" + hash;
        try {
            Mac mac = Mac.getInstance(ALGORITHM);
            mac.init(key);
            return "v1=" + HexFormat.of().formatHex(mac.doFinal(signed.getBytes(StandardCharsets.UTF_8)));
        } catch (GeneralSecurityException error) {
            throw new IllegalStateException(error);
        }
    }
}
