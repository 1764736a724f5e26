/** What can go wrong: one class per thing that a caller can do about it. */
package io.maeari.client.error;
