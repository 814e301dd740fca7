#!/bin/sh
# What: starts one Kafka broker, which is its own controller (KRaft), with a password.
# Run by: deploy/scale/process-compose.yaml and deploy/scale.compose.yaml.
set -eu
umask 077
data=$DATA_DIR/kafka
mkdir -p "$data"
read -r password <"$SECRETS_DIR/kafka/password" || :
cat >"$data/server.properties" <<END
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@$KAFKA_HOST:$KAFKA_CONTROLLER_PORT
controller.listener.names=CONTROLLER
listeners=CLIENTS://$KAFKA_LISTEN:$KAFKA_PORT,CONTROLLER://$KAFKA_LISTEN:$KAFKA_CONTROLLER_PORT
advertised.listeners=CLIENTS://$KAFKA_HOST:$KAFKA_PORT
inter.broker.listener.name=CLIENTS
listener.security.protocol.map=CLIENTS:SASL_PLAINTEXT,CONTROLLER:SASL_PLAINTEXT
sasl.enabled.mechanisms=PLAIN
sasl.mechanism.inter.broker.protocol=PLAIN
sasl.mechanism.controller.protocol=PLAIN
listener.name.clients.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username="chatscope" password="$password" user_chatscope="$password";
listener.name.controller.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username="chatscope" password="$password" user_chatscope="$password";
log.dirs=$data/logs
# A partition for each writer.
num.partitions=2
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
# A whole trace, which may contain long conversations.
message.max.bytes=60000000
replica.fetch.max.bytes=60000000
# The longest outage of the backends that loses nothing. A full disk stops the broker instead, and
# what it does not accept waits in the queues of the gateways and agents.
log.retention.hours=72
END
kafka() { # CLASS ARGUMENTS…
  class=$1
  shift
  exec java -Xms128m -Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp "$KAFKA_LIBS/*" \
    "$class" "$@"
}
[ -e "$data/logs/meta.properties" ] || (
  kafka kafka.tools.StorageTool format --cluster-id Y2hhdHNjb3BlLXNjYWxlZA \
    --config "$data/server.properties"
)
kafka kafka.Kafka "$data/server.properties"
