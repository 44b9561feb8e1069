import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { test } from 'node:test';
import { parseAddress } from '../../ip/address.ts';
import { openHostPort } from './host-port-socket.ts';
import { loadLibc } from '../netlink/libc.ts';

test('each datagram that arrives at a reserved UDP port is counted, those beyond its buffer as well', async () => {
  const address = parseAddress('127.0.0.1');
  const reserved = await openHostPort({ protocol: 'UDP', address, port: 0 }, { libc: loadLibc() });
  const sender = createSocket('udp4');
  const send = (size: number) =>
    new Promise((resolve) => sender.send(Buffer.alloc(size), reserved.port, address, resolve));
  try {
    assert.equal(reserved.undelivered(), 0);
    for (const size of [0, 1]) await send(size);
    assert.equal(reserved.undelivered(), 2);
    for (let count = 0; count < 50; count++) await send(1400);
    assert.equal(reserved.undelivered(), 52);
    assert.equal(reserved.undelivered(), 52);
  } finally {
    sender.close();
    reserved.close();
  }
});
