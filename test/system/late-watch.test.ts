import assert from 'node:assert/strict';
import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { after, before, describe, test } from 'node:test';
import { startLab, type NetworkLab } from '../lab/network-lab.ts';

/**
 * Docker is told that a container has joined when its own policy is in the kernel, however late etcd tells of it:
 * its very first packet passes.
 */
describe('an etcd that tells of changes late', { timeout: 600_000 }, () => {
  let lab: NetworkLab;
  let relay: ChildProcessByStdio<Writable, Readable, null>;
  let address: string;
  const order = async (what: string): Promise<void> => {
    relay.stdin.write(`${what}\n`);
    await once(relay.stdout, 'data');
  };
  before(async () => {
    lab = await startLab(
      { engine: '28.5', backend: 'nft', datastore: 'etcd' },
      { ETCD_ENDPOINTS: 'http://127.0.0.1:2400' },
    );
    const [command = '', ...rest]: readonly string[] = [
      ...lab.host.machine.enterNetwork,
      process.execPath,
      join(import.meta.dirname, '../lab/etcd-relay.ts'),
      '2400',
      'http://127.0.0.1:2379',
    ];
    relay = spawn(command, rest, { stdio: ['pipe', 'pipe', 'inherit'] });
    await once(relay.stdout, 'data');
    assert.ok(await lab.eventually(async () => (await lab.calicoResult('status')).status === 0));
    for (const name of ['web', 'other']) await lab.network(name);
    await lab.server('app', '--net', 'web');
    address = await lab.address('app', 'web');
  });
  after(async () => {
    relay?.kill();
    await lab?.[Symbol.asyncDispose]();
  });

  /** Containers that send one packet as soon as they run; throws if one has no answer. */
  const firstPackets = (count: number): Promise<unknown> => {
    // What lets the packet in is written in Join alone: the Profile of a label.
    const label = ['--label', 'org.projectcalico.profile=web'];
    const ping = ['ping', '-c', '1', '-W', '5', address];
    const run = () => lab.docker('run', '--rm', '--net', 'other', ...label, 'calico-test', ...ping);
    return Promise.all(Array.from({ length: count }, run));
  };

  test('longer than a write waits for it, and behind a backlog of 3,500 changes', async () => {
    await order('delay 4500');
    const backlog = order('backlog 3500');
    await firstPackets(2);
    await backlog;
  });
});
