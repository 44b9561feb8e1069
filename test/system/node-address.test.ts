import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { z } from 'zod';
import { startLab, type NetworkLab } from '../lab/network-lab.ts';
import { words } from '../lab/words.ts';

const storedNode = z.object({
  spec: z.looseObject({
    bgp: z.looseObject({ ipv4Address: z.string().optional(), ipv6Address: z.string().optional() }),
    addresses: z.array(z.object({ address: z.string(), type: z.string() })),
  }),
});

describe("the host's address in its Node", { timeout: 600_000 }, () => {
  let lab: NetworkLab;
  let name: string;
  before(async () => {
    lab = await startLab({ engine: '28.5', backend: 'nft', datastore: 'etcd' });
    name = lab.host.machine.name;
  });
  after(async () => lab[Symbol.asyncDispose]());

  const key = () => `/calico/resources/v3/projectcalico.org/nodes/${name}`;
  const etcdctl = (...argv: readonly string[]) => (lab.etcd ?? assert.fail()).etcdctl(...argv);
  const stored = () => storedNode.parse(JSON.parse(etcdctl('get', '--print-value-only', key())));
  const becomes = (ipv4: string) =>
    lab.eventually(async () => stored().spec.bgp.ipv4Address === ipv4);

  test('it is that of the first interface, with its prefix length, and not of Docker or containers', async () => {
    await lab.network('web');
    await lab.client('inside', '--net', 'web');
    const written = async () => /ipv4Address/.test(etcdctl('get', '--print-value-only', key()));
    assert.ok(await lab.eventually(written));
    const { spec } = stored();
    assert.deepEqual(spec.bgp, {
      ipv4Address: '203.0.113.2/24',
      ipv6Address: '2001:db8:113::2/64',
    });
    assert.deepEqual(spec.addresses, [
      { address: '203.0.113.2/24', type: 'CalicoNodeIP' },
      { address: '2001:db8:113::2/64', type: 'CalicoNodeIP' },
    ]);
    assert.match(await lab.calico('get', 'node'), /203\.0\.113\.2\/24/);
  });

  test('it follows the host, and what another tool wrote stays', async () => {
    const node: unknown = JSON.parse(etcdctl('get', '--print-value-only', key()));
    const { spec, ...rest } = z
      .looseObject({ spec: z.looseObject({ bgp: z.looseObject({}) }) })
      .parse(node);
    const changed = { ...rest, spec: { ...spec, bgp: { ...spec.bgp, asNumber: 64_512 } } };
    etcdctl('put', '--', key(), JSON.stringify(changed));
    const ip = (command: string) =>
      lab.host.run(words`ip address ${command.split(' ')} dev uplink`);
    await ip('add 203.0.113.77/25');
    await ip('del 203.0.113.2/24');
    assert.ok(await becomes('203.0.113.77/25'));
    assert.equal(stored().spec.bgp['asNumber'], 64_512);
    const byHand = { ...changed, spec: { ...changed.spec, bgp: { ipv4Address: '192.0.2.9/24' } } };
    etcdctl('put', '--', key(), JSON.stringify(byHand));
    await lab.host.killCalico();
    await lab.host.startCalico(lab.environment);
    await lab.calico('status');
    assert.deepEqual(stored().spec.bgp, { ipv4Address: '192.0.2.9/24' });
    const without = { ...changed, spec: { ...changed.spec, bgp: {} } };
    etcdctl('put', '--', key(), JSON.stringify(without));
    assert.ok(await becomes('203.0.113.77/25'));
  });
});
