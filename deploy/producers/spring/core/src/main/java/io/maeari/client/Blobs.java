package io.maeari.client;

import io.maeari.client.error.BlobException;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Map;
import java.util.UUID;
import java.util.regex.Pattern;

/** Puts what callers bring into the blob store and fetches what jobs made. */
public final class Blobs {
    private static final Pattern TENANT = Pattern.compile("[A-Za-z0-9][A-Za-z0-9._-]{0,63}");
    private static final int MAX_KEY_BYTES = 512;
    private static final Map<String, String> ENDINGS = Map.of(
            "audio/wav", "wav", "audio/webm", "webm", "audio/ogg", "ogg", "audio/mpeg", "mp3", "audio/mp4", "m4a");

    private final BlobStore store;

    /**
     * Over a store.
     *
     * @param store the cluster's
     */
    public Blobs(BlobStore store) {
        this.store = store;
    }

    /**
     * Keep a recording for a job.
     *
     * @param tenant whose it is; the same as the request's
     * @param data at most 64 MiB, unless the cluster is set up otherwise
     * @param mime for example {@code audio/webm}, as the browser calls it
     * @return what belongs into the request
     */
    public BlobRef upload(String tenant, byte[] data, String mime) {
        String plain = mime.split(";", 2)[0].strip();
        String key = tenant + "/audio/" + UUID.randomUUID() + "." + ENDINGS.getOrDefault(plain, "bin");
        check(key, tenant);
        store.write(key, data, plain);
        return new BlobRef(key, (long) data.length, Digests.hex("SHA-256", data), plain);
    }

    /**
     * Fetch what a job made.
     *
     * @param tenant whose it is
     * @param ref of an event or a result
     * @return the bytes
     * @throws BlobException when they are missing or not those that the reference means
     */
    public byte[] fetch(String tenant, BlobRef ref) {
        check(ref.key(), tenant);
        byte[] data = store.read(ref.key());
        boolean size = ref.size() == null || ref.size() == data.length;
        if (!size || ref.sha256() != null && !ref.sha256().equals(Digests.hex("SHA-256", data))) {
            throw new BlobException("invalid_blob", "The content of " + ref.key() + " is another.", null);
        }
        return data;
    }

    private static void check(String key, String tenant) {
        String[] parts = key.split("/", -1);
        boolean plain = Arrays.stream(parts).noneMatch(part -> part.isEmpty() || part.equals(".") || part.equals(".."));
        boolean own = TENANT.matcher(tenant).matches() && parts[0].equals(tenant) && parts.length >= 3;
        boolean characters = key.indexOf('\\') < 0 && key.chars().noneMatch(Character::isISOControl);
        if (!plain || !own || !characters || key.getBytes(StandardCharsets.UTF_8).length > MAX_KEY_BYTES) {
            throw new BlobException("invalid_blob", "A key is <tenant>/<kind>/<name>, relative and plain.", null);
        }
    }
}
