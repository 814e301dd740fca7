"""The scaled stack: agents, gateways, Kafka, writers and distributed backends."""
