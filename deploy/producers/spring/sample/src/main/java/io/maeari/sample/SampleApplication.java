package io.maeari.sample;

import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;

/** A page that asks a persona by voice or text and plays the answer as it comes. */
@SpringBootApplication
public class SampleApplication {
    /**
     * The program.
     *
     * @param arguments of Spring Boot
     */
    public static void main(String[] arguments) {
        SpringApplication.run(SampleApplication.class, arguments);
    }
}
