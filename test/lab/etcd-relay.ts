import { constants, connect, createServer, type IncomingHttpHeaders } from 'node:http2';
import { createInterface } from 'node:readline';
import { Transform } from 'node:stream';
import { openEtcdStore } from '../../src/datastore/etcd-store.ts';

/**
 * Runs in a machine's network: relays between etcd and its clients, and delays watch events. Commands are lines on the
 * standard input, each confirmed by `done`: `delay MS` delays all watch events from now on, and `backlog COUNT` writes
 * that many revisions.
 */
const [, , port = '', upstream = ''] = process.argv;
let delayMs = 0;

/** Forwards all data in order, each chunk delayed by the same time. */
function delayed(): Transform {
  let last = Promise.resolve();
  return new Transform({
    transform(chunk, _, next) {
      const until = new Promise((resolve) => setTimeout(resolve, delayMs));
      last = last.then(() => until).then(() => void this.push(chunk));
      next();
    },
    flush(end) {
      void last.then(() => end());
    },
  });
}

const server = createServer();
server.on('session', (session) => {
  const client = connect(upstream);
  client.on('error', () => session.destroy());
  session.on('error', () => client.destroy());
  session.on('close', () => client.close());
  session.on('stream', (stream, headers) => {
    const asked = client.request(headers, { endStream: false });
    let trailers: IncomingHttpHeaders = {};
    stream.on('error', () => asked.close());
    stream.on('close', () => asked.close());
    asked.on('error', () => stream.close());
    asked.on('trailers', (received: IncomingHttpHeaders) => {
      trailers = received;
    });
    stream.on('wantTrailers', () => stream.sendTrailers(trailers));
    asked.on('response', (answer, flags) => {
      const isAll = (flags & constants.NGHTTP2_FLAG_END_STREAM) !== 0;
      stream.respond(answer, isAll ? { endStream: true } : { waitForTrailers: true });
      if (isAll) return;
      const isWatch = headers[':path'] === '/etcdserverpb.Watch/Watch';
      if (isWatch) asked.pipe(delayed()).pipe(stream);
      else asked.pipe(stream);
    });
    stream.pipe(asked);
  });
});
server.listen(Number(port), '127.0.0.1', () => process.stdout.write('ready\n'));

async function writeBacklog(count: number): Promise<void> {
  const store = await openEtcdStore({ endpoints: [upstream] });
  const signal = AbortSignal.timeout(60_000);
  for (let from = 0; from < count; from += 50) {
    await Promise.all(
      Array.from({ length: 50 }, (_, index) => {
        const key = `/calico/ipam/v2/handle/backlog-${from + index}`;
        return store.commit({ compares: [], writes: [{ key, value: '{}' }] }, signal);
      }),
    );
  }
  await store.close();
}

for await (const line of createInterface(process.stdin)) {
  const [order, number = ''] = line.split(' ');
  if (order === 'delay') delayMs = Number(number);
  if (order === 'backlog') await writeBacklog(Number(number));
  process.stdout.write('done\n');
}
