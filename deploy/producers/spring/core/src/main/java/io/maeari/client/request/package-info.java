/** What can be asked of the cluster. A null component is left out of the message, and the cluster's default applies. */
package io.maeari.client.request;
