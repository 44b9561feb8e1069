import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { startLab, type NetworkLab } from '../lab/network-lab.ts';
import { pingStream } from '../lab/ping-stream.ts';

const snapshot = '/var/lib/calico/snapshot.json';

/**
 * A daemon that starts while etcd accepts connections and does not respond works from its snapshot, and from the
 * journal of the changes since: no allowed packet is lost, not even to a container that is newer than the snapshot.
 */
describe('a daemon that restarts while etcd is stalled', { timeout: 600_000 }, () => {
  let lab: NetworkLab;
  before(async () => {
    lab = await startLab({ engine: '28.5', backend: 'nft', datastore: 'etcd' });
    await lab.network('web');
    for (const name of ['elder', 'leaver']) await lab.client(name, '--net', 'web');
  });
  after(async () => {
    lab?.etcd?.resume();
    await lab?.[Symbol.asyncDispose]();
  });

  const isInSnapshot = async (name: string) =>
    (await lab.host.exec(['grep', '-q', name, snapshot])).status === 0;

  test('loses no allowed packet, of old containers and of one newer than the snapshot', async () => {
    const { host } = lab;
    assert.ok(await lab.eventually(() => isInSnapshot('leaver')));
    // No later snapshot can be saved, as if the daemon were killed within a second of the next change.
    await host.run(['mkdir', `${snapshot}.unfinished`]);
    await lab.client('young', '--net', 'web');
    await lab.docker('rm', '-f', 'leaver');
    const [elder, young] = await Promise.all(
      ['elder', 'young'].map((name) => lab.address(name, 'web')),
    );
    assert.ok(elder !== undefined && young !== undefined);
    const streams = [
      await pingStream(host, 'elder', young),
      await pingStream(host, 'young', elder),
    ];

    lab.etcd?.stall();
    await host.killCalico();
    assert.equal(await isInSnapshot('young'), false, 'the snapshot is older than the container');
    await host.startCalico(lab.environment);
    const check = async (pattern: RegExp) => {
      const shown = async () => pattern.test((await lab.calicoResult('status')).stdout);
      assert.ok(await lab.eventually(shown), (await lab.calicoResult('status')).stdout);
    };
    await check(/datastore: from a snapshot of 20\S+Z; .*is unavailable/);
    await check(/dataplane: in sync/);
    lab.etcd?.resume();
    await host.run(['rmdir', `${snapshot}.unfinished`]);
    await check(/datastore: \S+, in sync since/);
    await check(/dataplane: in sync/);
    for (const stream of streams) assert.equal(await stream.lost(), 0);
  });
});
