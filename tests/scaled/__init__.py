"""Tests of the scaled stack: agents, gateways, Kafka, writers, distributed backends."""
