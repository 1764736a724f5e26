/** The Maeari client as Spring Boot's: beans, properties, health and metrics. */
package io.maeari.spring;
