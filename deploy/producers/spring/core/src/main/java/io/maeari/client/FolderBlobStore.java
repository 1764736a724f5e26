package io.maeari.client;

import io.maeari.client.error.BlobException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.UUID;

/** A folder that this service and the workers share. */
public final class FolderBlobStore implements BlobStore {
    private final Path root;

    /**
     * A store at a folder, which may be missing yet.
     *
     * @param root the folder of the cluster's {@code MAEARI_BLOB_URL}
     */
    public FolderBlobStore(Path root) {
        this.root = root.toAbsolutePath().normalize();
    }

    @Override
    public void write(String key, byte[] data, String mime) {
        Path file = path(key);
        Path unfinished = file.resolveSibling("." + UUID.randomUUID() + ".unfinished");
        try {
            Files.createDirectories(file.getParent());
            Files.write(unfinished, data); // not a temporary file of the JDK: only its owner could read that
            Files.move(unfinished, file, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
        } catch (IOException error) {
            throw new BlobException("store_unavailable", "The blob could not be written: " + key, error);
        }
    }

    @Override
    public byte[] read(String key) {
        Path file = path(key);
        try {
            if (!file.toRealPath().startsWith(root.toRealPath())) {
                throw new BlobException("invalid_blob", "The key leads out of the store: " + key, null);
            }
            return Files.readAllBytes(file);
        } catch (NoSuchFileException error) {
            throw new BlobException("blob_missing", "There is nothing under " + key + ".", error);
        } catch (IOException error) {
            throw new BlobException("store_unavailable", "The blob could not be read: " + key, error);
        }
    }

    private Path path(String key) {
        Path file = root.resolve(key).normalize();
        if (!file.startsWith(root)) {
            throw new BlobException("invalid_blob", "The key leads out of the store: " + key, null);
        }
        return file;
    }
}
