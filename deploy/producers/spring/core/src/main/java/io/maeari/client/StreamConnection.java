package io.maeari.client;

import java.time.Duration;
import java.util.List;
import java.util.Map;

/** A connection that may block. One thread uses it. */
public interface StreamConnection extends AutoCloseable {
    /**
     * {@code XREAD COUNT count BLOCK block STREAMS ...}
     *
     * @param positions stream to the id behind which to read, {@code <seq>-0}
     * @param count entries of each stream at most
     * @param block how long to wait for the first entry
     * @return the entries of all streams, in the order of each stream; empty when nothing came
     */
    List<StreamEntry> read(Map<String, String> positions, int count, Duration block);

    @Override
    void close();
}
