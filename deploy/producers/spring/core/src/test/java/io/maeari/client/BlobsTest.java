package io.maeari.client;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.maeari.client.error.BlobException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class BlobsTest {
    private static final byte[] DATA = {1, 2, 3};

    @TempDir
    Path folder;

    private Blobs blobs() {
        return new Blobs(new FolderBlobStore(folder));
    }

    private String code(String tenant, BlobRef ref) {
        return assertThrows(BlobException.class, () -> blobs().fetch(tenant, ref)).code();
    }

    @Test
    void whatIsUploadedIsFetched() {
        BlobRef ref = blobs().upload("acme", DATA, "audio/webm;codecs=opus");
        assertTrue(ref.key().matches("acme/audio/[0-9a-f-]{36}\\.webm"), ref.key());
        assertEquals(3, ref.size());
        assertEquals("audio/webm", ref.mime());
        assertArrayEquals(DATA, blobs().fetch("acme", ref));
    }

    @Test
    void everyUserMayReadWhatIsUploaded() throws Exception {
        BlobRef ref = blobs().upload("acme", DATA, "audio/wav");
        Files.writeString(folder.resolve("plain"), "");
        assertEquals(
                Files.getPosixFilePermissions(folder.resolve("plain")),
                Files.getPosixFilePermissions(folder.resolve(ref.key())));
    }

    @Test
    void nothingUnfinishedIsLeft() throws Exception {
        blobs().upload("acme", DATA, "audio/wav");
        try (var files = Files.list(folder.resolve("acme/audio"))) {
            assertEquals(1, files.count());
        }
    }

    @Test
    void keysThatLeadElsewhereAreRefused() {
        for (String key : List.of("rival/audio/x", "acme/x", "acme/audio/../../x", "acme/a\\x/y", "/acme/audio/x")) {
            assertEquals("invalid_blob", code("acme", BlobRef.of(key)), key);
        }
        assertThrows(BlobException.class, () -> blobs().upload("../acme", DATA, "audio/wav"));
    }

    @Test
    void aLinkThatLeadsOutIsRefused() throws Exception {
        Files.createDirectories(folder.resolve("acme/audio"));
        Files.createSymbolicLink(folder.resolve("acme/audio/x"), Path.of("/etc/passwd"));
        assertEquals("invalid_blob", code("acme", BlobRef.of("acme/audio/x")));
    }

    @Test
    void missingAndChangedContentIsNamed() throws Exception {
        assertEquals("blob_missing", code("acme", BlobRef.of("acme/audio/nobody")));
        BlobRef ref = blobs().upload("acme", DATA, "audio/wav");
        Files.write(folder.resolve(ref.key()), new byte[] {9, 9, 9});
        assertEquals("invalid_blob", code("acme", ref));
    }
}
