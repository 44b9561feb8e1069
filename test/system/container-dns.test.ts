import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createSocket, type Socket } from 'node:dgram';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ForwardedQueries, openContainerDns } from '../../src/dataplane/container-dns.ts';
import { loadLibc } from '../../src/dataplane/netlink/libc.ts';
import { ended, tracked } from '../lab/children.ts';
import { eventually } from '../lab/poll.ts';
import { enterNewNamespace } from '../lab/namespace.ts';
import type { Stream } from '../lab/packet-streams.ts';

const namespace = enterNewNamespace();
const namespacePath = `/run/netns/${namespace.name}`;
const libc = loadLibc();
/** For what the kernel does in a few milliseconds. */
const patienceMs = 300;
const docker = { address: '127.0.0.11', port: 53 };

/** A query of a container is whatever it sends: nothing of it may end the process that serves all containers. */
describe('queries of a container that are no DNS, in a network namespace with a name server', () => {
  after(() => namespace[Symbol.dispose]());

  async function bound(address: string, port: number): Promise<Socket> {
    const socket = createSocket('udp4');
    await new Promise<void>((resolve) => {
      socket.bind(port, address, resolve);
    });
    return socket;
  }

  /** Serves the namespace, with Docker's name server in the hands of the test. */
  async function serving(answer: (query: Buffer) => Buffer | undefined = () => undefined) {
    const received: string[] = [];
    const waiting = new ForwardedQueries();
    const served = openContainerDns({
      libc,
      namespacePath,
      answer: (query) => {
        received.push(query.toString());
        return answer(query);
      },
      onFlood: () => assert.fail('no flood'),
      forwarded: waiting,
    });
    assert.ok(served);
    const server = await bound(docker.address, docker.port);
    const client = await bound('127.0.0.1', 0);
    const forwarded: { readonly query: string; readonly port: number; readonly from: string }[] =
      [];
    const responses: string[] = [];
    let isServed = true;
    const close = async () => {
      if (isServed) served.close();
      isServed = false;
      await sleep(patienceMs);
    };
    server.on('message', (query, { address, port }) => {
      forwarded.push({ query: query.toString(), port, from: address });
    });
    client.on('message', (response) => responses.push(response.toString()));
    return {
      close,
      server,
      received,
      waiting,
      forwarded,
      responses,
      ask: (query: string) => client.send(query, docker.port, docker.address),
      [Symbol.asyncDispose]: async () => {
        await close();
        server.close();
        client.close();
      },
    };
  }

  test('a response to a query that is too short for DNS does not end the process', async () => {
    await using lab = await serving();
    for (const query of ['', 'x', 'a long query']) lab.ask(query);
    assert.ok(await eventually(() => lab.forwarded.some(({ query }) => query === 'a long query')));
    for (const { query, port, from } of lab.forwarded) {
      lab.server.send(`${query.slice(0, 2)}: a response`, port, from);
    }
    assert.ok(await eventually(() => lab.responses.includes('a : a response')));
  });

  test('nor does a response after the container was left to Docker', async () => {
    await using lab = await serving();
    lab.ask('a long query');
    assert.ok(await eventually(() => lab.forwarded.length === 1));
    await lab.close();
    const [{ port, from } = assert.fail()] = lab.forwarded;
    lab.server.send('a late response', port, from);
    await sleep(patienceMs);
    assert.deepEqual(lab.responses, []);
  });

  test('nor does a query from port 0, which cannot be answered', async () => {
    await using lab = await serving(() => Buffer.from('a response'));
    const stream: Stream = {
      namespace: namespace.name,
      protocol: 'udp',
      source: '127.0.0.1',
      destination: docker.address,
      from: 0,
      to: docker.port,
      tos: 0,
    };
    const program = join(import.meta.dirname, '../lab/packet-streams.ts');
    const argv = [program, JSON.stringify([stream])];
    const sender = tracked('sender', spawn(process.execPath, argv, { stdio: 'inherit' }));
    try {
      assert.ok(await eventually(() => lab.received.length > 0));
    } finally {
      sender.kill();
      await ended('sender', sender);
    }
    lab.ask('a long query');
    assert.ok(await eventually(() => lab.responses.length > 0));
  });

  test('a container whose queries Docker does not answer leaves room for those of others', async () => {
    await using lab = await serving();
    const [most, more] = [512, 100];
    // Few at a time, because a socket keeps only some.
    for (let rounds = 0; rounds < 100 && lab.forwarded.length < most; rounds++) {
      for (let n = 0; n < more; n++) lab.ask('a long query');
      await sleep(50);
    }
    for (let n = 0; n < more; n++) lab.ask('a long query');
    await sleep(patienceMs);
    assert.equal(lab.forwarded.length, most);
    assert.ok(lab.waiting.begin());
    lab.waiting.end();
  });
});
