import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { request } from 'node:http';
import { after, before, describe, test } from 'node:test';
import { loadLibc } from '../../src/dataplane/netlink/libc.ts';
import { inNetworkNamespace } from '../../src/dataplane/netlink/network-namespace.ts';
import { encodeMessage, NetlinkSocket, socketAddress } from '../../src/dataplane/netlink/socket.ts';
import { NotifySocket } from '../../src/daemon/notify-socket.fixture.ts';
import { checkout } from '../lab/built.ts';
import { startCalicoDaemon } from '../lab/daemon.ts';
import { startHost, type Host } from '../lab/host.ts';
import { unlessLong } from '../lab/long.ts';
import type { BackgroundProcess } from '../lab/process.ts';
import { eventually, patienceMs } from '../lab/poll.ts';

const throwing = { NODE_OPTIONS: `--import ${checkout}/test/lab/throwing.ts` };

async function until(isSo: () => boolean | Promise<boolean>, what: string): Promise<void> {
  assert.ok(await eventually(isSo), `not within ${patienceMs} ms: ${what}`);
}

describe('a daemon in which something goes wrong', { timeout: 600_000 }, () => {
  let host: Host;
  before(async () => {
    host = await startHost({ engine: '28.5' });
  });
  after(async () => host[Symbol.asyncDispose]());

  const throwIn = (kind: string) => host.run(['sh', '-c', `echo ${kind} >/run/throw`]);
  const standStill = (most: '' | ', most of its time' = '') => throwIn(`endless loop${most}`);

  // Its kernel monitor waits on a thread of the pool all the while.
  for (const kind of ['timer', 'promise', 'socket', 'client', 'event']) {
    test(`is gone at once after a throw in a ${kind}, and its log has the stack`, async () => {
      const daemon = await startCalicoDaemon(host.machine, throwing);
      await throwIn(kind);
      await until(() => daemon.status !== undefined, 'its end');
      assert.equal(daemon.status, 1, daemon.output());
      assert.match(
        daemon.output(),
        /^\S+ error unhandled error; exiting for restart.* origin=\S+ stack="Error: .*\\n +at /m,
      );
    });
  }

  test('goes on after a message of netlink that cannot be read, and says so', async () => {
    const daemon = await startCalicoDaemon(host.machine);
    try {
      await forgeLinkMessage(host);
      await until(() => /background task failed/.test(daemon.output()), 'a line in the log');
      assert.match(
        daemon.output(),
        /warn background task failed, retrying work="kernel monitor" why=.* stack=/,
      );
      assert.match(
        await fromControlSocket(host, '/metrics'),
        /^calico_background_failures_total\{work="kernel monitor"\} 1$/m,
      );
      const { status, stdout } = await host.exec(['calico-cnm', 'status']);
      assert.match(stdout, /^ +ok +background tasks: kernel monitor failed once, last at /m);
      assert.equal(status, 0, stdout);
      // It listens again.
      await forgeLinkMessage(host);
      await until(
        async () => (await host.exec(['calico-cnm', 'status'])).status === 1,
        'status tells that it fails repeatedly',
      );
      const again = await host.exec(['calico-cnm', 'status']);
      assert.match(again.stdout, /FAIL +background tasks: kernel monitor failed 2 times in a row/);
    } finally {
      assert.equal(await daemon.end('SIGTERM'), 0);
    }
  });

  test('starts whatever is left of its files of state, and says which are damaged', async () => {
    const files = [
      '/run/calico/ipv6-forwarding.json',
      '/run/calico/serving.lock',
      '/run/calico/refused',
      '/var/lib/calico/snapshot.json',
      '/var/lib/calico/nodename',
    ];
    const folders = '/run/calico /var/lib/calico';
    for (const left of ['', '{', '{"a":', '[1]', '\\0\\377\\n\\0']) {
      const script = `mkdir -p ${folders}; for file in ${files.join(' ')}; do printf '${left}' >"$file"; done`;
      await host.run(['sh', '-c', script]);
      const daemon = await startCalicoDaemon(host.machine);
      const { stdout } = await host.exec(['calico-cnm', 'status']);
      assert.equal(await daemon.end('SIGTERM'), 0, daemon.output());
      assert.match(stdout, / on calico-lab-\d+-\d+, up since /);
      assert.match(daemon.output(), /warn \S*ipv6-forwarding.json is damaged/);
      assert.match(daemon.output(), /warn \S*nodename contains no valid node name/);
    }
    await host.run(['sh', '-c', `rm -f ${files.join(' ')}`]);
  });

  test('tells its service manager that it lives, from its event loop alone, and dies as that wants', async () => {
    using manager = new NotifySocket(host.path('/run/notify'));
    const watchdogMs = 2000;
    const watched = { NOTIFY_SOCKET: '/run/notify', WATCHDOG_USEC: String(1000 * watchdogMs) };
    const daemon = await startCalicoDaemon(host.machine, { ...throwing, ...watched });
    const said: string[] = [];
    const listen = () => {
      const heard = manager.heard();
      said.push(...heard);
      return heard;
    };
    const lives = () =>
      listen().length > 0 && said.filter((one) => one === 'WATCHDOG=1').length > 3;
    await until(lives, 'signs of life');
    assert.ok(said.includes('READY=1'));
    await standStill();
    let heardLast = performance.now();
    const isSilent = () => {
      if (listen().length > 0) heardLast = performance.now();
      return performance.now() - heardLast > watchdogMs;
    };
    await until(isSilent, 'silence as long as the manager bears');
    assert.equal(daemon.status, undefined);
    daemon.signal('SIGABRT');
    await until(() => daemon.status !== undefined, 'its end');
  });

  for (const [how, most] of [['in seconds', ', most of its time'] as const, ['', ''] as const])
    test(
      `is ended by the alarm that it has set when it stands still ${how}`.trim(),
      { skip: most === '' && unlessLong() },
      async () => {
        const daemon = await startCalicoDaemon(host.machine, throwing);
        await standStill(most);
        assert.equal(await daemon.ended(120_000), 128 + 14, daemon.output());
      },
    );

  test('comes back under the supervisor that install uses where there is no systemd', async () => {
    const supervise = `${checkout}/plugin/supervise`;
    const supervisor: BackgroundProcess = host.spawn([supervise, 'keep'], throwing);
    try {
      const served = () => readFileSync(host.path('/run/calico/serving.lock'), 'utf8').trim();
      const answers = async () => (await host.exec(['calico-cnm', 'status'])).status === 0;
      await until(answers, 'its start');
      for (const fails of [() => throwIn('timer'), () => standStill(', most of its time')]) {
        const before = served();
        await fails();
        await until(async () => served() !== before && (await answers()), 'its return');
      }
    } finally {
      await supervisor.end('SIGTERM');
    }
  });
});

/** A notification of a link that ends in its middle, to all who listen for them in the host's network. */
async function forgeLinkMessage(host: Host): Promise<void> {
  const libc = loadLibc();
  const socket = inNetworkNamespace(libc, `/proc/${host.machine.pid}/ns/net`, () =>
    NetlinkSocket.open(libc, 0),
  );
  const message = encodeMessage({ type: 16, payload: Buffer.alloc(2) }, 1);
  const links = socketAddress(1);
  assert.ok(libc.sendto(socket.fd, message, message.length, 0, links, links.length) > 0);
  socket.close();
}

function fromControlSocket(host: Host, path: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const options = { socketPath: host.path('/run/calico/calico-cnm.sock'), path, agent: false };
    request(options, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('end', () => resolve(Buffer.concat(chunks).toString()));
    })
      .on('error', reject)
      .end();
  });
}
