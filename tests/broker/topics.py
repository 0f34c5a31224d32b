"""Reading and making topics as an outsider does."""
import functools
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic

QUIET = {"log_level": 2, "socket.nagle.disable": True, "reconnect.backoff.max.ms": 1000}


@functools.cache
def admin(bootstrap):
    return AdminClient({"bootstrap.servers": bootstrap, **QUIET})


def create(bootstrap, topics):
    """topics: name -> (partitions, config). Returns once metadata shows them all."""
    client = admin(bootstrap)
    for name, future in client.create_topics(
            [NewTopic(n, num_partitions=p, replication_factor=-1, config=c) for n, (p, c) in topics.items()]).items():
        try:
            future.result(30)
        except Exception as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
    for name, (partitions, _) in topics.items():
        deadline = time.monotonic() + 20
        while True:
            topic = client.list_topics(timeout=10).topics.get(name)
            if topic and not topic.error and len(topic.partitions) == partitions:
                break
            if time.monotonic() > deadline:
                raise TimeoutError(f"topic {name} does not appear")
            time.sleep(0.1)


def _reader(bootstrap, isolation):
    return Consumer({"bootstrap.servers": bootstrap, "group.id": "reader-of-tests", "enable.auto.commit": False,
                     "isolation.level": isolation, "enable.partition.eof": True, "auto.offset.reset": "error",
                     "fetch.wait.max.ms": 50, **QUIET})


def end_offsets(bootstrap, topic, timeout=60):
    """The high watermarks, open transactions included: {partition: offset}. Waits for a broker that is coming up."""
    consumer = _reader(bootstrap, "read_uncommitted")
    deadline = time.monotonic() + timeout
    try:
        while True:
            try:
                found = consumer.list_topics(topic, timeout=10).topics[topic]
                ends = {p: consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=10) for p in found.partitions}
                if ends and None not in ends.values():
                    return {p: high for p, (_, high) in ends.items()}
            except KafkaException:
                pass
            if time.monotonic() > deadline:
                raise TimeoutError(f"no end offsets of {topic}")
            time.sleep(0.2)
    finally:
        consumer.close()


def read_all(bootstrap, topic, timeout=120, isolation="read_committed"):
    """Every record up to the high watermark at the time of the call, partition by partition in offset order. Waits for
    transactions that are open there. {partition: [Message]}"""
    ends = end_offsets(bootstrap, topic)
    consumer = _reader(bootstrap, isolation)
    records, done = {p: [] for p in ends}, {p for p, end in ends.items() if end == 0}
    deadline = time.monotonic() + timeout
    try:
        consumer.assign([TopicPartition(topic, p, 0) for p in ends if p not in done])
        while len(done) < len(ends):
            if time.monotonic() > deadline:
                raise TimeoutError(f"reading {topic}: an open transaction, or a record, is missing")
            for message in consumer.consume(2000, 0.2):
                error, partition = message.error(), message.partition()
                if error is None:
                    records[partition].append(message)
                    if message.offset() + 1 >= ends[partition]:
                        done.add(partition)
                elif error.code() == KafkaError._PARTITION_EOF:
                    if message.offset() >= ends[partition]:
                        done.add(partition)
                elif error.fatal() or error.code() == KafkaError._AUTO_OFFSET_RESET:
                    raise RuntimeError(f"reading {topic}: {error}")
    finally:
        consumer.close()
    return records


@functools.cache
def _group_reader(bootstrap, group):
    """Asks for a group's offsets without being a member."""
    return Consumer({"bootstrap.servers": bootstrap, "group.id": group, "enable.auto.commit": False,
                     "isolation.level": "read_committed", **QUIET})


def committed(bootstrap, group, topic, partitions):
    """{partition: committed offset, -1 none}; None where the broker does not answer."""
    try:
        found = _group_reader(bootstrap, group).committed([TopicPartition(topic, p) for p in range(partitions)], timeout=5)
    except KafkaException:
        return None
    return None if any(t.error for t in found) else {t.partition: max(t.offset, -1) for t in found}


def grow(bootstrap, names, partitions):
    """More partitions for these topics; returns once metadata shows them."""
    client = admin(bootstrap)
    for future in client.create_partitions([NewPartitions(n, partitions) for n in names]).values():
        future.result(30)
    deadline = time.monotonic() + 20
    while any(len(client.list_topics(n, timeout=10).topics[n].partitions) < partitions for n in names):
        if time.monotonic() > deadline:
            raise TimeoutError(f"partitions of {names} do not appear")
        time.sleep(0.1)


def delete_before(bootstrap, name, partition, offset):
    """What retention does."""
    for future in admin(bootstrap).delete_records([TopicPartition(name, partition, offset)]).values():
        future.result(30)


def setting(bootstrap, name, key):
    """A topic's property as the brokers have it."""
    resource = ConfigResource(ConfigResource.Type.TOPIC, name)
    return admin(bootstrap).describe_configs([resource])[resource].result(30)[key].value


def configure(bootstrap, name, **settings):
    """Sets a topic's properties (dots written as underscores); None takes one back to its default."""
    entries = [ConfigEntry(k.replace("_", "."), v if v is None else str(v),
                           incremental_operation=AlterConfigOpType.DELETE if v is None else AlterConfigOpType.SET)
               for k, v in settings.items()]
    resource = ConfigResource(ConfigResource.Type.TOPIC, name, incremental_configs=entries)
    for future in admin(bootstrap).incremental_alter_configs([resource]).values():
        future.result(30)
