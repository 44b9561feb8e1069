import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DropCounts } from '../../render/iptables/drop-counts.ts';
import { DropCounterUpkeep } from './drop-counters.ts';

const counted = 'cali40d:source';
const other = 'cali40d:tunnel';

/** Counter sets as the kernel has them, and the addresses reported as overflowing. */
class Sets {
  readonly packets = new Map<string, Map<string, bigint>>();
  readonly crowded = new Set<string>();
  readonly broken = new Set<string>();
  reads = 0;
  filled = () => [...this.packets].map(([name, { size }]) => ({ name, family: 4 as const, size }));
  counters = (name: string) => {
    this.reads++;
    if (this.broken.has(name)) throw new Error('too many');
    return [...(this.packets.get(name) ?? [])].map(([member, packets]) => ({
      member,
      packets,
      bytes: packets * 100n,
    }));
  };
  removeCounters = (name: string, members: readonly string[]) => {
    if (this.broken.has(`remove ${name}`)) throw new Error('busy');
    for (const member of members) this.packets.get(name)?.delete(member);
  };
  holds = (_: string, address: string) => this.crowded.has(address);
  addMember = (_: string, address: string) => void this.crowded.add(address);
  removeMember = (_: string, address: string) => void this.crowded.delete(address);

  count(set: string, member: string, packets: bigint): void {
    const members = this.packets.get(set) ?? new Map<string, bigint>();
    members.set(member, packets);
    this.packets.set(set, members);
  }
  size(set: string): number {
    return this.packets.get(set)?.size ?? 0;
  }
}

function lab() {
  const sets = new Sets();
  const ofEndpoints = new Set<string>();
  const ofHost = new Set<string>();
  const link = (name: string) =>
    ofHost.has(name)
      ? {
          index: 1,
          name,
          mac: '',
          mtuBytes: 1500,
          isUp: true,
          hasCarrier: true,
          leadsOut: true,
        }
      : undefined;
  const drops = new DropCounts([4, 6], sets, () => []);
  const counters = new DropCounterUpkeep(
    { node: 'here', kernel: { rules: { drops }, routes: { link } } },
    { hasInterface: (name) => ofEndpoints.has(name) },
  );
  const gone = (name: string) =>
    counters.onEvent({ kind: 'link', isGone: true, link: link(name) ?? linkOf(name) });
  const poll = (isInSync = true) => counters.poll({ isInSync });
  return { sets, counters, ofEndpoints, ofHost, gone, poll };
}

function linkOf(name: string) {
  return { index: 1, name, mac: '', mtuBytes: 1500, isUp: true, hasCarrier: true, leadsOut: true };
}

test('a counter is deleted with its interface, and kept while the host or an endpoint has the interface', () => {
  const { sets, ofEndpoints, ofHost, poll, gone } = lab();
  ofEndpoints.add('cali1');
  ofHost.add('cali2');
  for (const name of ['cali1', 'cali2', 'cali3']) sets.count(counted, `10.0.0.1,${name}`, 5n);
  assert.equal(poll(false), false);
  assert.equal(sets.size(counted), 3, 'which interfaces there are is not known before');
  assert.equal(poll(), false);
  assert.deepEqual(
    [...(sets.packets.get(counted)?.keys() ?? [])],
    ['10.0.0.1,cali1', '10.0.0.1,cali2'],
  );
  const { reads } = sets;
  poll();
  assert.equal(sets.reads, reads, 'nothing has changed: nothing is read');
  ofHost.delete('cali2');
  poll();
  assert.equal(sets.size(counted), 2);
  gone('cali2');
  poll();
  assert.equal(sets.size(counted), 1);
  sets.count(counted, '10.0.0.2,cali9', 1n);
  poll();
  assert.equal(sets.size(counted), 1, 'a set that has grown is read');
});

test("the counters of a removed endpoint are swept, also after the removal of another host's endpoint", () => {
  const { sets, counters, ofEndpoints, poll } = lab();
  ofEndpoints.add('cali1');
  sets.count(counted, '10.0.0.1,cali1', 5n);
  poll();
  ofEndpoints.delete('cali1');
  const value = {
    kind: 'WorkloadEndpoint' as const,
    apiVersion: 'projectcalico.org/v3' as const,
    metadata: { name: 'e' },
    spec: { node: 'here', endpoint: 'e', interfaceName: 'cali1', orchestrator: 'libnetwork' },
  };
  const stored = { id: 'e', value, modRevision: 1n };
  counters.onChange({ kind: 'WorkloadEndpoint', id: 'e', before: undefined, now: stored });
  poll();
  assert.equal(sets.size(counted), 1);
  counters.onChange({ kind: 'WorkloadEndpoint', id: 'e', before: stored, now: undefined });
  poll();
  assert.equal(sets.size(counted), 0);
});

test('a set keeps the 32 highest counters of an address; the rest becomes one number', () => {
  const { sets, counters, ofEndpoints, poll } = lab();
  const fill = (address: string, count: number) => {
    for (let n = 0; n < count; n++) {
      ofEndpoints.add(`cali${n}`);
      sets.count(counted, `${address},cali${n}`, BigInt(n + 1));
    }
  };
  fill('10.0.0.1', 31);
  fill('10.0.0.2', 40);
  assert.equal(poll(), true, 'an address became crowded');
  assert.deepEqual([...sets.crowded], ['10.0.0.2']);
  assert.equal(sets.size(counted), 71, 'rules would make anew what is given up now');
  assert.equal(poll(), false);
  assert.equal(sets.size(counted), 63);
  const kept = [...(sets.packets.get(counted) ?? [])].filter(([member]) =>
    member.startsWith('10.0.0.2'),
  );
  assert.equal(kept.length, 32);
  assert.equal(kept.map(([, packets]) => packets).toSorted((a, b) => Number(a - b))[0], 9n);
  const sum = BigInt((8 * 9) / 2);
  const rest = counters.counts().filter(({ by }) => by.kind === 'rest');
  assert.deepEqual(
    rest.map(({ interface: name, packets, bytes }) => [name, packets, bytes]),
    [[undefined, sum, sum * 100n]],
  );
  // It overflows as long as it does in one of the sets.
  for (let n = 0; n < 32; n++) sets.count(other, `10.0.0.2,cali${n}`, 1n);
  assert.equal(poll(), true);
  const all = sets.packets.get(counted) ?? new Map<string, bigint>();
  for (const member of all.keys()) if (member.startsWith('10.0.0.2')) all.delete(member);
  assert.equal(poll(), false);
  assert.deepEqual([...sets.crowded], ['10.0.0.2']);
  sets.packets.get(other)?.clear();
  assert.equal(poll(), true);
  assert.deepEqual([...sets.crowded], []);
});

test('a set that cannot be read or emptied is reported with the command that recreates it, and retried', () => {
  const { sets, counters, poll } = lab();
  sets.count(counted, '10.0.0.1,cali1', 5n);
  sets.broken.add(counted);
  poll();
  assert.deepEqual(
    counters.checks().map(({ name, ok, detail, remedy }) => [name, ok, detail, remedy]),
    [
      [
        'drop counters',
        false,
        'counters of the address set cali40d:source cannot be read: too many',
        'Packets are still dropped. Reset the counters: ipset flush cali40d:source',
      ],
    ],
  );
  assert.deepEqual(counters.counts(), []);
  sets.broken.clear();
  sets.broken.add(`remove ${counted}`);
  poll();
  assert.match(counters.checks()[0]?.detail ?? '', /busy/);
  sets.broken.clear();
  poll();
  assert.deepEqual([counters.checks(), sets.size(counted)], [[], 0]);
});

test('only the removal of an interface causes a sweep', () => {
  const { sets, counters, ofHost, poll, gone } = lab();
  ofHost.add('cali3');
  sets.count(counted, '10.0.0.1,cali3', 5n);
  poll();
  poll();
  const { reads } = sets;
  for (const event of [
    { kind: 'link', isGone: false, link: linkOf('cali9') },
    { kind: 'linkMade', name: 'cali9', hasIpv6: false },
  ] as const) {
    assert.equal(counters.onEvent(event), false);
    poll();
    assert.equal(sets.reads, reads, event.kind);
  }
  gone('cali9');
  poll();
  assert.ok(sets.reads > reads);
});
