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
    private static final int LEAST_KEY = 32;

    private final SecretKeySpec key;

    /**
     * A signer.
     *
     * @param secret one of the cluster's {@code MAEARI_SIGNING_KEYS}, 32 bytes of UTF-8 or more; nothing is decoded
     */
    public MessageSigner(String secret) {
        byte[] bytes = secret.strip().getBytes(StandardCharsets.UTF_8);
        if (bytes.length < LEAST_KEY) {
            throw new IllegalArgumentException("A signing key has at least " + LEAST_KEY + " bytes.");
        }
        this.key = new SecretKeySpec(bytes, ALGORITHM);
    }

    /**
     * What belongs into the header {@code signature}.
     *
     * @param jobId the job
     * @param task its task
     * @param deadlineMs milliseconds since the epoch; a signed job always has a deadline
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
