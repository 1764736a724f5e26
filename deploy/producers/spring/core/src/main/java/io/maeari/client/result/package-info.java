/** What the cluster answers. Fields that a newer cluster adds are skipped. */
package io.maeari.client.result;
