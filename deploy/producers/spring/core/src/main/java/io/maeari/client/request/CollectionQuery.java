package io.maeari.client.request;

import com.fasterxml.jackson.annotation.JsonInclude;

/**
 * A collection to search and how much its hits count.
 *
 * @param name of the collection
 * @param weight above 0, to 10; null: 1
 */
@JsonInclude(JsonInclude.Include.NON_NULL)
public record CollectionQuery(String name, Double weight) {}
