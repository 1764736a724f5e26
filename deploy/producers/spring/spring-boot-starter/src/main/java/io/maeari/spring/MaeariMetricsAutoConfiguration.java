package io.maeari.spring;

import io.maeari.client.ClientObserver;
import io.maeari.client.MaeariClient;
import io.micrometer.core.instrument.Gauge;
import io.micrometer.core.instrument.MeterRegistry;
import io.micrometer.core.instrument.binder.MeterBinder;
import org.springframework.boot.autoconfigure.AutoConfiguration;
import org.springframework.boot.autoconfigure.condition.ConditionalOnBean;
import org.springframework.boot.autoconfigure.condition.ConditionalOnClass;
import org.springframework.boot.autoconfigure.condition.ConditionalOnMissingBean;
import org.springframework.boot.autoconfigure.condition.ConditionalOnProperty;
import org.springframework.context.annotation.Bean;

/** Metrics of the client, where there is a registry. */
@AutoConfiguration(
        after = MaeariAutoConfiguration.class,
        afterName = "org.springframework.boot.actuate.autoconfigure.metrics.CompositeMeterRegistryAutoConfiguration")
@ConditionalOnClass(MeterRegistry.class)
@ConditionalOnBean(MeterRegistry.class)
@ConditionalOnProperty(prefix = "maeari", name = "enabled", matchIfMissing = true)
public class MaeariMetricsAutoConfiguration {
    /**
     * Counts and times what the client does.
     *
     * @param registry of the application
     * @return the observer
     */
    @Bean
    @ConditionalOnMissingBean
    public ClientObserver maeariObserver(MeterRegistry registry) {
        return new MicrometerObserver(registry);
    }

    /**
     * What the client is at now.
     *
     * @param client that is looked at
     * @return gauges
     */
    @Bean
    @ConditionalOnBean(MaeariClient.class)
    public MeterBinder maeariGauges(MaeariClient client) {
        return registry -> {
            Gauge.builder("maeari.followed", client, MaeariClient::following)
                    .description("Jobs that are followed now")
                    .register(registry);
            Gauge.builder("maeari.reader.connected", client, one -> one.connected() ? 1 : 0)
                    .description("1 while the shared reader reads")
                    .register(registry);
        };
    }
}
