package io.maeari.client;

/**
 * The store that the cluster's {@code MAEARI_BLOB_URL} names: a shared folder ({@link FolderBlobStore}), or a bucket
 * for which an application writes these two methods over the S3 library that it has. They throw
 * {@link io.maeari.client.error.BlobException}.
 */
public interface BlobStore {
    /**
     * Keep bytes; another content under the same key is replaced.
     *
     * @param key relative, with forward slashes, checked by {@link Blobs}
     * @param data the bytes
     * @param mime media type, which a folder forgets
     */
    void write(String key, byte[] data, String mime);

    /**
     * Fetch bytes.
     *
     * @param key relative, with forward slashes, checked by {@link Blobs}
     * @return the bytes
     */
    byte[] read(String key);
}
