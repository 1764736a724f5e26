package io.maeari.spring;

import io.maeari.client.MaeariClient;
import org.springframework.boot.actuate.autoconfigure.health.ConditionalOnEnabledHealthIndicator;
import org.springframework.boot.actuate.health.HealthIndicator;
import org.springframework.boot.autoconfigure.AutoConfiguration;
import org.springframework.boot.autoconfigure.condition.ConditionalOnBean;
import org.springframework.boot.autoconfigure.condition.ConditionalOnClass;
import org.springframework.boot.autoconfigure.condition.ConditionalOnMissingBean;
import org.springframework.context.annotation.Bean;

/** The health of the client, where there is an actuator. */
@AutoConfiguration(after = MaeariAutoConfiguration.class)
@ConditionalOnClass({HealthIndicator.class, ConditionalOnEnabledHealthIndicator.class})
@ConditionalOnBean(MaeariClient.class)
@ConditionalOnEnabledHealthIndicator("maeari")
public class MaeariHealthAutoConfiguration {
    /**
     * Up when Redis answers and the shared reader reads.
     *
     * @param client that is looked at
     * @return the indicator
     */
    @Bean
    @ConditionalOnMissingBean(name = "maeariHealthIndicator")
    public HealthIndicator maeariHealthIndicator(MaeariClient client) {
        return new MaeariHealthIndicator(client);
    }
}
