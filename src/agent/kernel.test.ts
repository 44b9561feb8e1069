import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeSets } from '../dataplane/address-sets.fixture.ts';
import { AddressSets } from '../dataplane/address-sets.ts';
import type { Link } from '../dataplane/netlink/link.ts';
import type { KernelRoute } from '../dataplane/netlink/route.ts';
import { parseAddress } from '../ip/address.ts';
import { parseNet } from '../ip/cidr.ts';
import { routesInRounds, setsInRounds } from './kernel.ts';
import { phases, type HostEvent } from './manager.ts';

const signal = AbortSignal.timeout(600_000);

/** The routes as a driver; records the calls it receives. */
function routeLab(present: ReadonlyMap<string, Link>) {
  const told: string[] = [];
  let answer = true;
  const driver = routesInRounds(
    {
      resync: () => void told.push('resync'),
      routeGone: ({ destination }) => {
        told.push(`gone ${destination}`);
        return answer;
      },
      routeMade: ({ destination }, place) => {
        told.push(`made ${destination} ${place}`);
        return answer;
      },
      addressGone: ({ address }) => {
        told.push(`gone ${address}`);
        return answer;
      },
      linkChanged: (name, link) => {
        told.push(`${name} ${link?.index ?? 'gone'}`);
        return name === 'uplink';
      },
      apply: async () => void told.push('apply'),
      hasDue: true,
      failures: () => [{ what: 'a route', why: 'EINVAL' }],
    },
    (name) => present.get(name),
  );
  const tell = (event: HostEvent, said = true) => {
    answer = said;
    return [driver.onEvent?.(event), ...told.splice(0)];
  };
  return { driver, told, tell };
}

function link(name: string): Link {
  const rest = { mac: '', mtuBytes: 1500, isUp: true, hasCarrier: true, leadsOut: true };
  return { index: 7, name, ...rest };
}

test('routes receive each route, address and interface event, and a round follows if an event may concern our routes', () => {
  const { tell } = routeLab(new Map());
  const route: KernelRoute = {
    destination: parseNet('10.0.0.1/32'),
    table: 254,
    metric: 0,
    protocol: 80,
    linkIndex: 7,
    route: undefined,
  };
  for (const concernsUs of [true, false]) {
    assert.deepEqual(tell({ kind: 'routeGone', route }, concernsUs), [
      concernsUs,
      'gone 10.0.0.1/32',
    ]);
    assert.deepEqual(tell({ kind: 'routeMade', route, place: 'before others' }, concernsUs), [
      concernsUs,
      'made 10.0.0.1/32 before others',
    ]);
  }
  for (const name of ['cali1', 'lo', 'uplink']) {
    assert.deepEqual(tell({ kind: 'link', link: link(name), isGone: false }), [true, `${name} 7`]);
  }
  assert.deepEqual(tell({ kind: 'link', link: link('cali1'), isGone: true }), [true, 'cali1 gone']);
  assert.deepEqual(tell({ kind: 'link', link: link('eth0'), isGone: false }), [false, 'eth0 7']);
  const address = { linkIndex: 7, address: parseAddress('10.0.0.9'), prefixLength: 24 };
  assert.deepEqual(tell({ kind: 'address', address, isGone: true }), [true, 'gone 10.0.0.9']);
  assert.deepEqual(tell({ kind: 'address', address, isGone: false }), [false]);
  assert.deepEqual(tell({ kind: 'nftables', processId: 1 }), [false]);
});

test('an interface that we created is looked up immediately, without waiting for a kernel event', () => {
  const { tell } = routeLab(new Map([['cali1', link('cali1')]]));
  const made = (name: string) => tell({ kind: 'linkMade', name, hasIpv6: false });
  assert.deepEqual(made('cali1'), [true, 'cali1 7']);
  assert.deepEqual(made('cali2'), [true]);
});

test('routes are written last, in their own phase only', async () => {
  const { driver, told } = routeLab(new Map());
  for (const phase of phases) {
    await driver.apply?.(phase, signal);
    assert.deepEqual(told, phase === 'routes' ? ['apply'] : [], phase);
  }
  driver.resync?.();
  assert.deepEqual(told, ['apply', 'resync']);
  assert.equal(driver.poll?.({ isInSync: true }), true);
  assert.deepEqual(driver.failures?.(), [{ what: 'a route', why: 'EINVAL' }]);
});

test('a set is created before the rules that name it and deleted after them; once it exists, rejected rules are retried', async () => {
  const kernel = new FakeSets();
  const sets = new AddressSets(kernel);
  let retried = 0;
  const driver = setsInRounds(sets, { retryRefused: () => retried++ });
  sets.setDesired({ name: 'cali40one', type: 'net', family: 4, countsPackets: false });
  sets.addMember('cali40one', '10.0.0.1/32');
  for (const phase of phases) {
    await driver.apply?.(phase, signal);
    assert.equal(kernel.sets.has('cali40one'), phase !== 'reading', phase);
  }
  assert.equal(retried, 0);
  assert.equal(driver.poll?.({ isInSync: true }), false);
  kernel.sets.get('cali40one')?.members.clear();
  assert.equal(driver.poll?.({ isInSync: true }), true);
  await driver.apply?.('additions', signal);
  assert.deepEqual([...(kernel.sets.get('cali40one')?.members ?? [])], ['10.0.0.1/32']);
  sets.deleteDesired('cali40one');
  await driver.apply?.('additions', signal);
  assert.ok(kernel.sets.has('cali40one'));
  await driver.apply?.('removals', signal);
  assert.ok(!kernel.sets.has('cali40one'));
});
