package io.maeari.spring;

import io.maeari.client.BlobStore;
import io.maeari.client.Blobs;
import io.maeari.client.ClientObserver;
import io.maeari.client.FolderBlobStore;
import io.maeari.client.MaeariClient;
import io.maeari.client.MessageSigner;
import io.maeari.client.Presence;
import io.maeari.client.RedisPort;
import org.springframework.beans.factory.ObjectProvider;
import org.springframework.boot.autoconfigure.AutoConfiguration;
import org.springframework.boot.autoconfigure.condition.ConditionalOnBean;
import org.springframework.boot.autoconfigure.condition.ConditionalOnMissingBean;
import org.springframework.boot.autoconfigure.condition.ConditionalOnProperty;
import org.springframework.boot.autoconfigure.data.redis.RedisAutoConfiguration;
import org.springframework.boot.context.properties.EnableConfigurationProperties;
import org.springframework.context.annotation.Bean;
import org.springframework.data.redis.core.StringRedisTemplate;
import org.springframework.util.StringUtils;

/** The client and what belongs to it; each bean gives way to one of the application's own. */
@AutoConfiguration(after = RedisAutoConfiguration.class)
@ConditionalOnProperty(prefix = "maeari", name = "enabled", matchIfMissing = true)
@EnableConfigurationProperties(MaeariProperties.class)
public class MaeariAutoConfiguration {
    /**
     * Redis as Spring reaches it.
     *
     * @param template of the application
     * @return the port
     */
    @Bean
    @ConditionalOnMissingBean
    @ConditionalOnBean(StringRedisTemplate.class)
    public RedisPort maeariRedisPort(StringRedisTemplate template) {
        return new SpringRedisPort(template);
    }

    /**
     * The way into the cluster.
     *
     * @param redis how Redis is reached
     * @param properties of the application
     * @param observers told what the client does
     * @return closed with the application
     */
    @Bean(destroyMethod = "close")
    @ConditionalOnMissingBean
    @ConditionalOnBean(RedisPort.class)
    public MaeariClient maeariClient(
            RedisPort redis, MaeariProperties properties, ObjectProvider<ClientObserver> observers) {
        MaeariClient.Builder builder = MaeariClient.builder(redis)
                .prefix(properties.getPrefix())
                .application(properties.getApplication())
                .tenant(properties.getTenant())
                .patience(properties.getPatience())
                .block(properties.getBlock())
                .observer(observers.getIfUnique(() -> ClientObserver.NONE));
        if (StringUtils.hasText(properties.getSigningKey())) {
            builder.signer(new MessageSigner(properties.getSigningKey()));
        }
        return builder.build();
    }

    /**
     * The same for reactive code.
     *
     * @param client that it speaks through
     * @return the client
     */
    @Bean
    @ConditionalOnMissingBean
    @ConditionalOnBean(MaeariClient.class)
    public ReactiveMaeariClient reactiveMaeariClient(MaeariClient client) {
        return new ReactiveMaeariClient(client);
    }

    /**
     * Keeps callers present.
     *
     * @param client that it speaks through
     * @return closed with the application
     */
    @Bean(destroyMethod = "close")
    @ConditionalOnMissingBean
    @ConditionalOnBean(MaeariClient.class)
    public Presence maeariPresence(MaeariClient client) {
        return new Presence(client);
    }

    /**
     * A shared folder, where one is named.
     *
     * @param properties of the application
     * @return the store
     */
    @Bean
    @ConditionalOnMissingBean
    @ConditionalOnProperty(prefix = "maeari", name = "blob-folder")
    public BlobStore maeariBlobStore(MaeariProperties properties) {
        return new FolderBlobStore(properties.getBlobFolder());
    }

    /**
     * Upload and download of audio.
     *
     * @param store the folder, or the application's own
     * @return the blobs
     */
    @Bean
    @ConditionalOnMissingBean
    @ConditionalOnBean(BlobStore.class)
    public Blobs maeariBlobs(BlobStore store) {
        return new Blobs(store);
    }
}
