package io.maeari.client;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;

/** The checkout that these tests lie in, for the generated contracts. */
final class Project {
    private Project() {}

    static JsonNode schema(String name) throws IOException {
        return Json.MAPPER.readTree(Files.readString(root().resolve("shared/schemas").resolve(name)));
    }

    private static Path root() {
        Path folder = Path.of("").toAbsolutePath();
        while (!Files.isDirectory(folder.resolve("shared/schemas"))) {
            folder = folder.getParent();
        }
        return folder;
    }
}
