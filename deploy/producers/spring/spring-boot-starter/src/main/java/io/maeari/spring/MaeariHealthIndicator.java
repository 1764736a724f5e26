package io.maeari.spring;

import io.maeari.client.MaeariClient;
import org.springframework.boot.actuate.health.AbstractHealthIndicator;
import org.springframework.boot.actuate.health.Health;

/** Up when Redis answers and the shared reader reads; how the workers are, the cluster's own status says. */
final class MaeariHealthIndicator extends AbstractHealthIndicator {
    private final MaeariClient client;

    MaeariHealthIndicator(MaeariClient client) {
        super("Redis does not answer the Maeari client");
        this.client = client;
    }

    @Override
    protected void doHealthCheck(Health.Builder builder) {
        client.ping();
        builder.status(client.connected() ? "UP" : "DOWN")
                .withDetail("followed", client.following())
                .withDetail("readerConnected", client.connected());
    }
}
