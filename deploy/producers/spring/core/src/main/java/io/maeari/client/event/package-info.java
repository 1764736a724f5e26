/** What a job's stream tells. */
package io.maeari.client.event;
