/**
 * A client for Maeari: hand in a job, follow its events, take its result, cancel it.
 *
 * <p>Begin with {@link io.maeari.client.MaeariClient}. Everything goes through one Redis, reached through a small
 * {@link io.maeari.client.RedisPort}; the Spring Boot starter brings one over Lettuce.
 */
package io.maeari.client;
