import { existsSync, readFileSync, rmSync } from 'node:fs';
import { createServer, request } from 'node:http';
import { connect, createServer as createTcpServer, type AddressInfo } from 'node:net';
import { loadLibc } from '../../src/dataplane/netlink/libc.ts';

/**
 * Loaded into a daemon by `node --import`: throws in a callback of the kind that the file names, or blocks, as soon as
 * the file exists. It simulates a fault anywhere in the program or its libraries.
 */

const order = '/run/throw';

function fail(kind: string): never {
  throw new Error(`thrown in a ${kind}`);
}

export const throwingKinds: Readonly<Record<string, (kind: string) => void>> = {
  timer: (kind) => void setTimeout(() => fail(kind), 1),
  promise: (kind) => void Promise.reject(new Error(`thrown in a ${kind}`)),
  socket: (kind) => {
    const server = createTcpServer((socket) => socket.on('data', () => fail(kind)));
    server.listen(0, '127.0.0.1', () => connect(portOf(server.address())).write('x'));
  },
  client: (kind) => {
    const server = createServer((_request, response) => response.end('x'));
    server.listen(0, '127.0.0.1', () => {
      const port = portOf(server.address());
      request({ port }, (response) => response.on('data', () => fail(kind))).end();
    });
  },
  /** An error event without a listener, as of a client's request. */
  event: () => {
    const server = createTcpServer((socket) => socket.destroy());
    server.listen(0, '127.0.0.1', () => request({ port: portOf(server.address()) }).end());
  },
  'endless loop': () => standStill(),
  /** Of the time that the daemon gave itself, if it gave itself one, all but a second is over. */
  'endless loop, most of its time': () => {
    const libc = loadLibc();
    if (libc.alarm(0) > 0) libc.alarm(1);
    standStill();
  },
};

function standStill(): never {
  for (;;);
}

function portOf(address: AddressInfo | string | null): number {
  return typeof address === 'object' && address !== null ? address.port : 0;
}

setInterval(() => {
  if (!existsSync(order)) return;
  const kind = readFileSync(order, 'utf8').trim();
  rmSync(order);
  throwingKinds[kind]?.(kind);
}, 50).unref();
