"""Bytes on the topics: Avro through fastavro, the changelog's records by hand after the text of io/record.h and
io/sequence.h. Nothing is shared with the program under test."""
import io
import json
import struct
import subprocess

import fastavro
import xxhash

POSITION_KEY = b"\0position"
OWED_PREFIX = b"\0owed\0"
LABEL_PREFIX = b"\0label\0"


def _plain(schema):
    """The schema without logical types, so that times stay the numbers on the wire."""
    if isinstance(schema, dict):
        return {k: _plain(v) for k, v in schema.items() if k != "logicalType"}
    return [_plain(v) for v in schema] if isinstance(schema, list) else schema


class Avro:
    """One schema; encode and strict decode (every byte used) of plain datums."""

    def __init__(self, schema):
        self.raw = schema
        self.schema = fastavro.parse_schema(_plain(schema))

    @classmethod
    def shipped(cls, peterctl, name):
        text = subprocess.run([peterctl, "schema", name], check=True, capture_output=True, timeout=20).stdout
        return cls(json.loads(text))

    def encode(self, record):
        out = io.BytesIO()
        fastavro.schemaless_writer(out, self.schema, record)
        return out.getvalue()

    def decode(self, value):
        source = io.BytesIO(value)
        record = fastavro.schemaless_reader(source, self.schema, None)
        if source.tell() != len(value):
            raise ValueError(f"{len(value) - source.tell()} bytes left over")
        return record


def hash_item(item):
    return xxhash.xxh3_64_intdigest(item.encode())


def checksum(value):
    return struct.pack("<I", xxhash.xxh3_64_intdigest(value) & 0xFFFFFFFF)


def varint(value):
    value = (value << 1) ^ (value >> 63)
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), at


def encode_user(events, newest_offset):
    """events: [(time_ms, item hash)], oldest first."""
    out = bytearray(b"\x01") + varint(newest_offset) + varint(len(events))
    if events:
        out += varint(events[0][0])
        for before, after in zip(events, events[1:]):
            out += varint(after[0] - before[0])
    out += b"".join(struct.pack("<Q", item) for _, item in events)
    return bytes(out + checksum(bytes(out)))


def decode_user(value):
    """The inverse: (events, newest offset); ValueError where damaged."""
    if len(value) < 6 or value[0] != 1 or value[-4:] != checksum(value[:-4]):
        raise ValueError("version or checksum")
    offset, at = read_varint(value, 1)
    count, at = read_varint(value, at)
    times = []
    for i in range(count):
        step, at = read_varint(value, at)
        times.append(step if i == 0 else times[-1] + step)
    items = struct.unpack_from(f"<{count}Q", value, at)
    if at + 8 * count != len(value) - 4:
        raise ValueError("length")
    return list(zip(times, items)), offset


def decode_position(value):
    """(next interactions offset, next labels offset, stream time, next changelog offset)."""
    if len(value) < 9 or value[0] != 1 or value[-4:] != checksum(value[:-4]):
        raise ValueError("version or checksum")
    fields, at = [], 1
    for _ in range(4):
        field, at = read_varint(value, at)
        fields.append(field)
    return tuple(fields)
