import { createSocket } from 'node:dgram';
import { connect } from 'node:net';
import { createInterface } from 'node:readline';
import packet from 'dns-packet';
import { z } from 'zod';
import { DnsFrames, frame } from '../../src/dataplane/dns-frames.ts';
import type { DnsResponse } from './dns-client.ts';

/**
 * Sends DNS queries to 127.0.0.11 from the network namespace of this process, one for each line of input
 * (`NAME TYPE udp|tcp|edns`), and prints the responses as JSON, in that order.
 */

const server = { host: '127.0.0.11', port: 53 };
const patienceMs = 6000;
const types = z.enum(['A', 'AAAA', 'PTR', 'MX']);

function encode(name: string, type: string, isExtended: boolean): Buffer {
  const none = { extendedRcode: 0, ednsVersion: 0, flags: 0, flag_do: false, options: [] };
  return packet.encode({
    type: 'query',
    id: 4711,
    flags: packet.RECURSION_DESIRED,
    questions: [{ name, type: types.parse(type) }],
    additionals: isExtended ? [{ type: 'OPT', name: '.', udpPayloadSize: 4096, ...none }] : [],
  });
}

function overUdp(query: Buffer): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const socket = createSocket('udp4');
    const timer = setTimeout(() => socket.close(), patienceMs);
    socket.once('close', () => {
      clearTimeout(timer);
      reject(new Error('no response'));
    });
    socket.on('error', reject);
    socket.on('message', (response) => {
      resolve(response);
      socket.close();
    });
    socket.connect(server.port, server.host, () => socket.send(query));
  });
}

function overTcp(query: Buffer): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const frames = new DnsFrames();
    const socket = connect(server, () => socket.write(frame(query)));
    socket.setTimeout(patienceMs, () => socket.destroy(new Error('no response')));
    socket.on('error', reject);
    socket.on('data', (data) => {
      const [response] = frames.push(data);
      if (response === undefined) return;
      resolve(response);
      socket.destroy();
    });
  });
}

function read(response: Buffer): Omit<DnsResponse, 'ms'> {
  const { answers = [], additionals = [], flags = 0, flag_tc } = packet.decode(response);
  const records = answers.flatMap((one) =>
    one.type === 'A' || one.type === 'AAAA' || one.type === 'PTR' ? [one] : [],
  );
  return {
    code: flags & 0xf,
    data: records.map(({ data }) => data),
    ttl: Math.max(0, ...records.map(({ ttl = 0 }) => ttl)),
    isTruncated: flag_tc,
    hasExtension: additionals.some((one) => one.type === 'OPT'),
  };
}

for await (const line of createInterface({ input: process.stdin })) {
  const [name = '', type = '', transport = ''] = line.split(' ');
  const started = performance.now();
  const query = encode(name, type, transport === 'edns');
  const response = await (transport === 'tcp' ? overTcp(query) : overUdp(query)).then(
    read,
    (error: unknown) => ({ code: String(error), data: [], ttl: 0 }),
  );
  process.stdout.write(`${JSON.stringify({ ...response, ms: performance.now() - started })}\n`);
}
