import { createSocket } from 'node:dgram';
import { connect } from 'node:net';
import packet from 'dns-packet';
import { z } from 'zod';
import { DnsFrames, frame } from '../../src/dataplane/dns-frames.ts';

/**
 * Sends one DNS query to 127.0.0.11 from the network namespace of this process and prints the response:
 * `node dns-query.ts NAME TYPE udp|tcp|edns`.
 */

const server = { host: '127.0.0.11', port: 53 };
const [name = '', type = '', transport = ''] = process.argv.slice(2);
const patienceMs = 6000;

const query = packet.encode({
  type: 'query',
  id: 4711,
  flags: packet.RECURSION_DESIRED,
  questions: [{ name, type: z.enum(['A', 'AAAA', 'PTR', 'MX']).parse(type) }],
  additionals:
    transport === 'edns'
      ? [
          {
            type: 'OPT',
            name: '.',
            udpPayloadSize: 4096,
            extendedRcode: 0,
            ednsVersion: 0,
            flags: 0,
            flag_do: false,
            options: [],
          },
        ]
      : [],
});

const started = performance.now();

function print(response: Buffer): void {
  const {
    answers = [],
    additionals = [],
    flags = 0,
    flag_tc: isTruncated,
  } = packet.decode(response);
  const code = flags & 0xf;
  const records = answers.flatMap((one) =>
    one.type === 'A' || one.type === 'AAAA' || one.type === 'PTR'
      ? [{ data: one.data, ttl: one.ttl }]
      : [],
  );
  process.stdout.write(
    JSON.stringify({
      code,
      data: records.map((one) => one.data),
      ttl: Math.max(-1, ...records.map((one) => one.ttl ?? -1)),
      isTruncated,
      hasExtension: additionals.some((one) => one.type === 'OPT'),
      ms: performance.now() - started,
    }),
    () => process.exit(0),
  );
}

function fail(why: string): void {
  process.stdout.write(
    JSON.stringify({ code: why, data: [], ttl: -1, ms: performance.now() - started }),
    () => process.exit(0),
  );
}

setTimeout(() => fail('timeout'), patienceMs);
if (transport === 'tcp') {
  const frames = new DnsFrames();
  const socket = connect(server, () => socket.write(frame(query)));
  socket.on('error', ({ message }) => fail(message));
  socket.on('data', (data) => frames.push(data).forEach(print));
} else {
  const socket = createSocket('udp4');
  socket.on('error', ({ message }) => fail(message));
  socket.on('message', print);
  socket.connect(server.port, server.host, () => socket.send(query));
}
