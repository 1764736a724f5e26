package io.maeari.client.resp;

import io.maeari.client.error.BrokerUnavailableException;
import io.maeari.client.error.RedisErrors;
import java.io.BufferedInputStream;
import java.io.BufferedOutputStream;
import java.io.EOFException;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import javax.net.ssl.SSLSocketFactory;

/** One connection that speaks RESP 2: strings go out; strings, whole numbers, lists and nulls come back. */
final class RespConnection implements AutoCloseable {
    private static final int CONNECT_TIMEOUT_MS = 3_000;
    private static final int ANSWER_TIMEOUT_MS = 3_000;

    private final Socket socket;
    private final InputStream in;
    private final OutputStream out;
    private boolean broken;

    /** {@code redis://[user:password@]host:port[/db]}, or {@code rediss://} for TLS with the JVM's trust store. */
    RespConnection(URI url) {
        try {
            Socket plain = new Socket();
            plain.connect(new InetSocketAddress(url.getHost(), url.getPort()), CONNECT_TIMEOUT_MS);
            plain.setTcpNoDelay(true);
            socket = url.getScheme().equals("rediss")
                    ? ((SSLSocketFactory) SSLSocketFactory.getDefault())
                            .createSocket(plain, url.getHost(), url.getPort(), true)
                    : plain;
            in = new BufferedInputStream(socket.getInputStream());
            out = new BufferedOutputStream(socket.getOutputStream());
        } catch (IOException error) {
            throw new BrokerUnavailableException("Redis cannot be reached: " + error.getMessage(), error);
        }
        introduce(url);
    }

    private void introduce(URI url) {
        if (url.getUserInfo() != null) {
            String[] parts = url.getUserInfo().split(":", 2);
            call(parts[0].isEmpty() ? List.of("AUTH", parts[1]) : List.of("AUTH", parts[0], parts[1]), 0);
        }
        String database = url.getPath() == null ? "" : url.getPath().replace("/", "");
        if (!database.isEmpty() && !database.equals("0")) {
            call(List.of("SELECT", database), 0);
        }
    }

    boolean broken() {
        return broken;
    }

    /** The answer to a command that may block for so many milliseconds. */
    Object call(List<String> command, int blockMs) {
        try {
            socket.setSoTimeout(blockMs + ANSWER_TIMEOUT_MS);
            out.write(("*" + command.size() + "\r\n").getBytes(StandardCharsets.UTF_8));
            for (String word : command) {
                byte[] bytes = word.getBytes(StandardCharsets.UTF_8);
                out.write(("$" + bytes.length + "\r\n").getBytes(StandardCharsets.UTF_8));
                out.write(bytes);
                out.write('\r');
                out.write('\n');
            }
            out.flush();
            return answer();
        } catch (IOException error) {
            broken = true;
            throw new BrokerUnavailableException("The connection to Redis broke: " + error.getMessage(), error);
        }
    }

    private Object answer() throws IOException {
        String line = line();
        String rest = line.substring(1);
        return switch (line.charAt(0)) {
            case '+' -> rest;
            case '-' -> throw RedisErrors.of(rest, null);
            case ':' -> rest;
            case '$' -> bulk(Integer.parseInt(rest));
            case '*' -> list(Integer.parseInt(rest));
            default -> throw new IOException("not RESP: " + line.charAt(0));
        };
    }

    private String bulk(int length) throws IOException {
        if (length < 0) {
            return null;
        }
        byte[] bytes = in.readNBytes(length);
        if (bytes.length < length || in.readNBytes(2).length < 2) {
            throw new EOFException("closed in the middle of an answer");
        }
        return new String(bytes, StandardCharsets.UTF_8);
    }

    private List<Object> list(int length) throws IOException {
        if (length < 0) {
            return null;
        }
        List<Object> found = new ArrayList<>(length);
        for (int number = 0; number < length; number++) {
            found.add(answer());
        }
        return found;
    }

    private String line() throws IOException {
        StringBuilder line = new StringBuilder();
        for (int next = in.read(); next != '\r'; next = in.read()) {
            if (next < 0) {
                throw new EOFException("closed by Redis");
            }
            line.append((char) next);
        }
        in.read();
        if (line.isEmpty()) {
            throw new IOException("not RESP: an empty line");
        }
        return line.toString();
    }

    @Override
    public void close() {
        try {
            socket.close();
        } catch (IOException ignored) {
            broken = true;
        }
    }
}
