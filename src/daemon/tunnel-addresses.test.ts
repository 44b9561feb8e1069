import assert from 'node:assert/strict';
import { test } from 'node:test';
import { inBackground } from '../async/background.fixture.ts';
import { Work } from '../async/supervise.ts';
import { openMirroredStore } from '../cache/mirrored-store.fixture.ts';
import type { Draft } from '../datastore/writer.ts';
import { parseAddress } from '../ip/address.ts';
import { parseCidr } from '../ip/cidr.ts';
import type { FelixConfiguration } from '../model/kinds/felix-configuration.ts';
import type { IpPool } from '../model/kinds/ip-pool.ts';
import { deleteResource } from '../cli/resources/resource-plans.ts';
import { mtuOfContainer } from './container-mtu.ts';
import { keepTunnelAddresses } from './tunnel-addresses.ts';

const apiVersion = 'projectcalico.org/v3';
const signal = AbortSignal.timeout(600_000);
const node = 'host-a';

function pool(cidr: string, vxlanMode: 'Always' | 'Never'): IpPool {
  const spec = { cidr: parseCidr(cidr), vxlanMode };
  return { kind: 'IPPool', apiVersion, metadata: { name: 'p' }, spec };
}

function configuration(name: string, spec: FelixConfiguration['spec']): FelixConfiguration {
  return { kind: 'FelixConfiguration', apiVersion, metadata: { name }, spec };
}

/** A daemon's loop over a datastore; `prepare` writes what is there before it starts. */
async function lab(prepare: (draft: Draft) => void = () => undefined) {
  const store = await openMirroredStore();
  const { mirror, writer } = store;
  const write = (plan: (draft: Draft) => void) => writer.write(plan, signal);
  await write((draft) => {
    draft.put('Node', node, { kind: 'Node', apiVersion, metadata: { name: node }, spec: {} });
    prepare(draft);
  });
  const failures: unknown[] = [];
  const quiet = () => undefined;
  const loop = inBackground((stop) =>
    keepTunnelAddresses(
      {
        node,
        families: [4, 6],
        mirror,
        writer,
        stamp: (resource) => resource,
        now: () => new Date(),
        log: { error: quiet, warn: quiet, info: quiet, debug: quiet },
        work: new Work('tunnel addresses', { onFailure: ({ error }) => failures.push(error) }),
      },
      stop,
    ),
  );
  const spec = () => mirror.get('Node', node)?.value.spec ?? assert.fail();
  const until = async (isSo: () => boolean) => {
    for (let look = 0; look < 2000 && !isSo(); look++) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    assert.ok(isSo(), JSON.stringify([spec(), failures]));
  };
  return {
    mirror,
    write,
    spec,
    until,
    failures,
    vni: () => mirror.get('FelixConfiguration', 'default')?.value.spec.vxlanVNI,
    [Symbol.asyncDispose]: async () => {
      await loop.stop();
      await store[Symbol.asyncDispose]();
    },
  };
}

test('an address appears when a pool uses VXLAN, in the family of the pool, and goes with the last such pool', async () => {
  await using host = await lab();
  await host.write((draft) => draft.put('IPPool', 'four', pool('10.65.0.0/24', 'Always')));
  await host.until(() => host.spec().ipv4VXLANTunnelAddr !== undefined);
  assert.equal(host.spec().ipv6VXLANTunnelAddr, undefined);
  await host.write((draft) => draft.put('IPPool', 'six', pool('fd00:65::/112', 'Always')));
  await host.until(() => host.spec().ipv6VXLANTunnelAddr !== undefined);
  await host.write((draft) => draft.put('IPPool', 'four', pool('10.65.0.0/24', 'Never')));
  await host.until(() => host.spec().ipv4VXLANTunnelAddr === undefined);
  await host.write((draft) =>
    draft.put(
      'FelixConfiguration',
      `node.${node}`,
      configuration(`node.${node}`, { vxlanEnabled: false }),
    ),
  );
  await host.until(() => host.spec().ipv6VXLANTunnelAddr === undefined);
  assert.deepEqual(host.failures, []);
});

test('an address that somebody takes out of the Node comes back, and a full pool is reported', async () => {
  await using host = await lab((draft) =>
    draft.put('IPPool', 'four', pool('10.65.0.0/24', 'Always')),
  );
  await host.until(() => host.spec().ipv4VXLANTunnelAddr !== undefined);
  await host.write((draft) => {
    const before = draft.get('Node', node) ?? assert.fail();
    draft.put('Node', node, { ...before, spec: {} });
  });
  await host.until(() => host.spec().ipv4VXLANTunnelAddr !== undefined);
  await host.write((draft) => {
    draft.put('IPPool', 'four', pool('10.65.0.0/24', 'Never'));
    draft.put('IpamConfig', 'config', { strict_affinity: true, auto_allocate_blocks: false });
    draft.put('IPPool', 'other', pool('10.66.0.0/24', 'Always'));
  });
  await host.until(() => host.failures.length > 0);
  await host.write((draft) =>
    draft.put('IpamConfig', 'config', { strict_affinity: true, auto_allocate_blocks: true }),
  );
  await host.until(() => host.spec().ipv4VXLANTunnelAddr?.startsWith('10.66.') === true);
});

test('a pool with no addresses but those of tunnels can be deleted; they move to another pool', async () => {
  await using host = await lab((draft) => {
    draft.put('IPPool', 'four', { ...pool('10.65.0.0/24', 'Always'), metadata: { name: 'four' } });
  });
  await host.until(() => host.spec().ipv4VXLANTunnelAddr?.startsWith('10.65.') === true);
  await host.write((draft) => {
    draft.put('IPPool', 'other', pool('10.66.0.0/24', 'Always'));
    assert.equal(deleteResource(draft, 'IPPool', 'four'), 'done');
  });
  await host.until(() => host.spec().ipv4VXLANTunnelAddr?.startsWith('10.66.') === true);
});

test('the first tunnel of a cluster chooses its VNI; one that is named, or in use, stays', async () => {
  const withPool = (draft: Draft) => draft.put('IPPool', 'four', pool('10.65.0.0/24', 'Always'));
  const cases = [
    { name: 'a new cluster', vni: 200 },
    {
      name: 'one with a configuration without it',
      prepare: (draft: Draft) =>
        draft.put('FelixConfiguration', 'default', configuration('default', { vxlanMTU: 1400 })),
      vni: 200,
    },
    {
      name: 'one that names a VNI',
      prepare: (draft: Draft) =>
        draft.put('FelixConfiguration', 'default', configuration('default', { vxlanVNI: 77 })),
      vni: 77,
    },
    {
      name: 'one in which Felix has tunnels',
      prepare: (draft: Draft) =>
        draft.put('Node', 'felix', {
          kind: 'Node',
          apiVersion,
          metadata: { name: 'felix' },
          spec: { ipv4VXLANTunnelAddr: '10.65.0.9' },
        }),
      vni: undefined,
    },
  ];
  for (const { name, prepare, vni } of cases) {
    await using host = await lab((draft) => {
      prepare?.(draft);
      withPool(draft);
    });
    await host.until(() => host.spec().ipv4VXLANTunnelAddr !== undefined);
    assert.equal(host.vni(), vni, name);
    if (name.includes('without')) {
      assert.equal(host.mirror.get('FelixConfiguration', 'default')?.value.spec.vxlanMTU, 1400);
    }
  }
});

test("a container's MTU leaves room for the tunnels of the pools of its addresses", async () => {
  await using host = await lab((draft) => {
    draft.put('IPPool', 'four', pool('10.65.0.0/24', 'Always'));
    draft.put('IPPool', 'plain', pool('10.66.0.0/24', 'Never'));
  });
  const mtu = (...addresses: readonly string[]) =>
    mtuOfContainer(host.mirror, node, {
      addresses: addresses.map((one) => parseAddress(one)),
      uplinkBytes: 1500,
    });
  assert.deepEqual(
    [mtu('10.66.0.1'), mtu('10.65.0.1'), mtu('10.66.0.1', '10.65.0.1')],
    [1500, 1450, 1450],
  );
  await host.write((draft) =>
    draft.put('FelixConfiguration', 'default', configuration('default', { vxlanMTU: 1300 })),
  );
  await host.until(() => mtu('10.65.0.1') === 1300);
});
