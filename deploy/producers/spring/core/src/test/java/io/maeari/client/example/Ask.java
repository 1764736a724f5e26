package io.maeari.client.example;

import io.maeari.client.BlobRef;
import io.maeari.client.Blobs;
import io.maeari.client.EventStream;
import io.maeari.client.FolderBlobStore;
import io.maeari.client.Job;
import io.maeari.client.MaeariClient;
import io.maeari.client.ReplyText;
import io.maeari.client.error.MaeariException;
import io.maeari.client.event.Event;
import io.maeari.client.request.TurnRequest;
import io.maeari.client.resp.SocketRedisPort;
import io.maeari.client.result.TurnResult;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.HashMap;
import java.util.Map;

/**
 * Asks a persona, prints the reply as it comes and keeps the spoken answer.
 *
 * <pre>{@code
 * Ask --pack artist --text "좋아하는 색이 뭐야?"
 * Ask --audio question.wav --redis redis://127.0.0.1:46379/0 --blobs .maeari/blobs --out reply.wav
 * }</pre>
 */
public final class Ask {
    private static final String TENANT = "default";
    private static final PrintStream OUT = new PrintStream(System.out, true, StandardCharsets.UTF_8);

    private Ask() {}

    /**
     * The program.
     *
     * @param arguments as above
     * @throws IOException when a file cannot be read or written
     */
    public static void main(String[] arguments) throws IOException {
        Map<String, String> options = new HashMap<>(Map.of(
                "--pack", "artist",
                "--redis", "redis://127.0.0.1:46379/0",
                "--blobs", ".maeari/blobs",
                "--out", "reply.wav"));
        for (int at = 0; at + 1 < arguments.length; at += 2) {
            options.put(arguments[at], arguments[at + 1]);
        }
        Blobs blobs = new Blobs(new FolderBlobStore(Path.of(options.get("--blobs"))));
        try (SocketRedisPort redis = new SocketRedisPort(options.get("--redis"));
                MaeariClient client = MaeariClient.builder(redis).application("example").build()) {
            TurnResult result = ask(client, request(options, blobs));
            if (result.audio() != null) {
                Path file = Path.of(options.get("--out"));
                Files.write(file, blobs.fetch(TENANT, result.audio()));
                OUT.printf("%.1f seconds of speech in %s%n", result.audioDurationS(), file);
            }
        } catch (MaeariException error) {
            System.err.println(error.code() + ": " + error.getMessage());
            System.exit(1);
        }
    }

    private static TurnRequest request(Map<String, String> options, Blobs blobs) throws IOException {
        String pack = options.get("--pack");
        if (!options.containsKey("--audio")) {
            return TurnRequest.text(pack, "example", options.getOrDefault("--text", "이름이 뭐야?"));
        }
        BlobRef audio = blobs.upload(TENANT, Files.readAllBytes(Path.of(options.get("--audio"))), "audio/wav");
        return TurnRequest.audio(pack, "example", audio);
    }

    private static TurnResult ask(MaeariClient client, TurnRequest request) {
        Job<TurnResult> job = client.submit(request);
        ReplyText reply = new ReplyText();
        try (EventStream events = job.events(Duration.ofMinutes(2))) {
            for (Event event : events) {
                if (event instanceof Event.Transcript heard) {
                    OUT.println("> " + heard.text());
                } else if (event instanceof Event.TextDelta delta) {
                    show(reply.toString(), reply.apply(delta));
                } else if (event instanceof Event.Audio audio) {
                    OUT.printf("%n[sentence %d can be played: %s]%n", audio.sentence(), audio.audio().key());
                }
            }
        }
        OUT.println();
        return job.result(Duration.ofSeconds(10));
    }

    /** Only what is new, unless a stage that was run again has gone back. */
    private static void show(String before, String now) {
        OUT.print(now.startsWith(before) ? now.substring(before.length()) : "\n" + now);
    }
}
