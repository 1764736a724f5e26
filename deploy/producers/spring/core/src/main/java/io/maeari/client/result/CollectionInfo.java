package io.maeari.client.result;

import com.fasterxml.jackson.annotation.JsonIgnoreProperties;

/**
 * A stored collection.
 *
 * @param name its name
 * @param chunks in it
 * @param profile of cutting
 * @param embedding model and dimension of its vectors
 */
@JsonIgnoreProperties(ignoreUnknown = true)
public record CollectionInfo(String name, int chunks, String profile, String embedding) {}
