package io.maeari.spring;

import java.nio.file.Path;
import java.time.Duration;
import org.springframework.boot.context.properties.ConfigurationProperties;

/** How the client of the Maeari cluster is set up. Where Redis is, {@code spring.data.redis.*} says. */
@ConfigurationProperties("maeari")
public class MaeariProperties {
    /** Where the cluster's keys begin: its MAEARI_KEY_PREFIX. */
    private String prefix = "maeari:";

    /** Where the ids of this application's jobs begin; in Redis its access may be bound to that. Default: spring. */
    private String application = "spring";

    /** Tenant of requests that name none. Default: the cluster's. */
    private String tenant;

    /** Signs messages: one of the cluster's MAEARI_SIGNING_KEYS. Default: messages are not signed. */
    private String signingKey;

    /** How long a call rides out a Redis that does not answer. */
    private Duration patience = Duration.ofSeconds(10);

    /** How long one read of the shared reader waits. Must be shorter than spring.data.redis.timeout. */
    private Duration block = Duration.ofMillis(100);

    /** Folder that the workers share, for audio: the path in the cluster's MAEARI_BLOB_URL. */
    private Path blobFolder;

    /**
     * Where the cluster's keys begin.
     *
     * @return never null
     */
    public String getPrefix() {
        return prefix;
    }

    /**
     * Set where the cluster's keys begin.
     *
     * @param prefix never null
     */
    public void setPrefix(String prefix) {
        this.prefix = prefix;
    }

    /**
     * Where the ids of this application's jobs begin.
     *
     * @return never null
     */
    public String getApplication() {
        return application;
    }

    /**
     * Set where the ids of this application's jobs begin.
     *
     * @param application letters, digits, '_' and '-'
     */
    public void setApplication(String application) {
        this.application = application;
    }

    /**
     * Tenant of requests that name none.
     *
     * @return null: the cluster's default
     */
    public String getTenant() {
        return tenant;
    }

    /**
     * Set the tenant of requests that name none.
     *
     * @param tenant null: the cluster's default
     */
    public void setTenant(String tenant) {
        this.tenant = tenant;
    }

    /**
     * What messages are signed with.
     *
     * @return null: nothing
     */
    public String getSigningKey() {
        return signingKey;
    }

    /**
     * Set what messages are signed with.
     *
     * @param signingKey null: nothing
     */
    public void setSigningKey(String signingKey) {
        this.signingKey = signingKey;
    }

    /**
     * How long a call rides out a Redis that does not answer.
     *
     * @return never null
     */
    public Duration getPatience() {
        return patience;
    }

    /**
     * Set how long a call rides out a Redis that does not answer.
     *
     * @param patience never null
     */
    public void setPatience(Duration patience) {
        this.patience = patience;
    }

    /**
     * How long one read of the shared reader waits.
     *
     * @return never null
     */
    public Duration getBlock() {
        return block;
    }

    /**
     * Set how long one read of the shared reader waits.
     *
     * @param block a millisecond or more
     */
    public void setBlock(Duration block) {
        this.block = block;
    }

    /**
     * Folder that the workers share.
     *
     * @return null: there is none, or the application has a BlobStore of its own
     */
    public Path getBlobFolder() {
        return blobFolder;
    }

    /**
     * Set the folder that the workers share.
     *
     * @param blobFolder may be null
     */
    public void setBlobFolder(Path blobFolder) {
        this.blobFolder = blobFolder;
    }
}
