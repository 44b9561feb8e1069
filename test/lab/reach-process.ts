import { createSocket } from 'node:dgram';
import { connect } from 'node:net';
import { createInterface } from 'node:readline';
import { z } from 'zod';

/**
 * Reads lists of targets, one JSON per line, and prints those that it reaches: by TCP if a connection is established, by
 * UDP if there is a response. All are tried together, for a second.
 */

const targets = z.array(
  z.object({
    name: z.string(),
    protocol: z.enum(['tcp', 'udp']),
    address: z.string(),
    port: z.number(),
  }),
);
type Target = z.infer<typeof targets>[number];

const timeoutMs = 1000;
/** The address of the root of DNS: a query that a name server answers, and other servers as well. */
const query = Buffer.from([0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1]);

for await (const line of createInterface({ input: process.stdin })) {
  const all = targets.parse(JSON.parse(line));
  const reached = await Promise.all(
    all.map(async (one) => ((await reaches(one)) ? [one.name] : [])),
  );
  process.stdout.write(`${JSON.stringify(reached.flat())}\n`);
}

function reaches({ protocol, address, port }: Target): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const timer = setTimeout(() => resolve(false), timeoutMs);
  const close =
    protocol === 'tcp' ? viaTcp(address, port, resolve) : viaUdp(address, port, resolve);
  return promise.finally(() => {
    clearTimeout(timer);
    close();
  });
}

function viaTcp(host: string, port: number, answer: (isReached: boolean) => void): () => void {
  const socket = connect({ host, port });
  socket.once('connect', () => answer(true));
  socket.on('error', () => answer(false));
  return () => socket.destroy();
}

function viaUdp(address: string, port: number, answer: (isReached: boolean) => void): () => void {
  const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4');
  socket.once('message', () => answer(true));
  socket.on('error', () => answer(false));
  // Only a connected socket is told about ICMP errors.
  socket.connect(port, address, () => socket.send(query));
  return () => socket.close();
}
