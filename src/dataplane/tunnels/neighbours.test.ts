import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseAddress } from '../../ip/address.ts';
import { Neighbours } from './neighbours.ts';
import type { Neighbour } from '../netlink/neighbour.ts';
import { FakeTunnels, shownAs } from './tunnel-calls.fixture.ts';

const name = 'vxlan.calico';

function neighbour(address: number, mac: number): Neighbour {
  return { kind: 'neighbour', address: parseAddress(`10.65.0.${address}`), mac: macOf(mac) };
}

function forwarding(mac: number, remote: number): Neighbour {
  return { kind: 'forwarding', mac: macOf(mac), remote: parseAddress(`192.0.2.${remote}`) };
}

function macOf(number: number): string {
  return `66:00:00:00:00:0${number}`;
}

function setup() {
  const kernel = new FakeTunnels();
  kernel.add({ name, kind: 'vxlan' });
  const neighbours = new Neighbours(kernel.neighbours, {
    names: [name],
    indexOf: (one) => kernel.links.get(one)?.index,
  });
  const index = () => kernel.links.get(name)?.index ?? assert.fail();
  return { kernel, neighbours, index };
}

test('whatever was desired and changed by others, after an apply the desired entries are there and no others', () => {
  const entry = fc.oneof(
    fc
      .tuple(fc.integer({ min: 1, max: 4 }), fc.integer({ min: 1, max: 3 }))
      .map(([a, m]) => neighbour(a, m)),
    fc
      .tuple(fc.integer({ min: 1, max: 3 }), fc.integer({ min: 1, max: 3 }))
      .map(([m, r]) => forwarding(m, r)),
  );
  const step = fc.record({
    kind: fc.constantFrom(
      'want',
      'unwant',
      'made by others',
      'removed by others',
      'apply',
      'link made again',
    ),
    entry,
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const { kernel, neighbours, index } = setup();
      const desired = new Map<string, Neighbour>();
      const keyOf = (one: Neighbour) => (one.kind === 'neighbour' ? one.address : one.mac);
      const unwant = (one: Neighbour) => {
        const before = desired.get(keyOf(one));
        if (before === undefined) return;
        neighbours.deleteDesired(name, before);
        desired.delete(keyOf(one));
      };
      const report = (one: Neighbour, isGone: boolean) =>
        neighbours.changed({ linkIndex: index(), isPermanent: true, neighbour: one }, isGone);
      for (const { kind, entry: one } of steps) {
        const entries = kernel.entries.get(index()) ?? assert.fail();
        if (kind === 'want') {
          unwant(one);
          neighbours.setDesired(name, one);
          desired.set(keyOf(one), one);
        } else if (kind === 'unwant') unwant(one);
        else if (kind === 'made by others') {
          kernel.neighbours.set(index(), one);
          // Of an entry that was replaced, only the new one is reported.
          report(one, false);
        } else if (kind === 'removed by others') {
          if (entries.delete(shownAs(one))) report(one, true);
        } else if (kind === 'link made again') {
          kernel.remove(name);
          kernel.add({ name, kind: 'vxlan' });
        } else neighbours.apply();
      }
      neighbours.apply();
      assert.deepEqual(kernel.shown(name), [...desired.values()].map(shownAs).toSorted());
      kernel.journal.length = 0;
      neighbours.resync();
      neighbours.apply();
      assert.deepEqual(kernel.journal, [], 'it settles');
    }),
  );
});

test('an entry that another program removes, replaces or adds is repaired at once', () => {
  const { kernel, neighbours, index } = setup();
  const [own, foreign] = [neighbour(1, 1), forwarding(9, 9)];
  neighbours.setDesired(name, own);
  neighbours.setDesired(name, forwarding(1, 1));
  neighbours.apply();
  const report = (one: Neighbour, options: { isGone?: boolean; isPermanent?: boolean } = {}) =>
    neighbours.changed(
      { linkIndex: index(), isPermanent: options.isPermanent ?? true, neighbour: one },
      options.isGone ?? false,
    );
  const written = () => {
    kernel.journal.length = 0;
    neighbours.apply();
    return kernel.journal;
  };
  assert.equal(report(own), false, 'our own');
  assert.equal(report(own, { isGone: true }), true);
  assert.deepEqual(written(), [`set ${shownAs(own)}`]);
  assert.equal(report(neighbour(1, 2)), true, 'another MAC address');
  assert.deepEqual(written(), [`set ${shownAs(own)}`]);
  assert.equal(report(own, { isPermanent: false }), true, 'no longer permanent');
  assert.deepEqual(written(), [`set ${shownAs(own)}`]);
  assert.equal(report({ ...own, mac: '' }, { isPermanent: false }), true, 'removed, as reported');
  assert.deepEqual(written(), [`set ${shownAs(own)}`]);
  assert.equal(report(forwarding(1, 9)), true, 'another remote host');
  assert.deepEqual(written(), [`set ${shownAs(forwarding(1, 1))}`]);
  assert.equal(report(foreign), true);
  assert.deepEqual(written(), [`unset ${shownAs(foreign)}`]);
  assert.equal(
    neighbours.changed({ linkIndex: 1, isPermanent: true, neighbour: foreign }, false),
    false,
    'not on a link of ours',
  );
});

test('a MAC address moves to another remote host without a moment in which it has none', () => {
  const { kernel, neighbours } = setup();
  neighbours.setDesired(name, forwarding(1, 1));
  neighbours.apply();
  neighbours.deleteDesired(name, forwarding(1, 1));
  neighbours.setDesired(name, forwarding(1, 2));
  kernel.journal.length = 0;
  neighbours.apply();
  assert.deepEqual(kernel.journal, [`set ${shownAs(forwarding(1, 2))}`]);
});

test('entries wait for their link, and one that is refused does not stop the others', () => {
  const { kernel, neighbours } = setup();
  kernel.remove(name);
  neighbours.setDesired(name, neighbour(1, 1));
  neighbours.setDesired(name, neighbour(2, 2));
  neighbours.apply();
  assert.deepEqual(neighbours.failures(), []);
  kernel.add({ name, kind: 'vxlan' });
  kernel.refuses.add(macOf(1));
  neighbours.apply();
  assert.deepEqual(kernel.shown(name), [shownAs(neighbour(2, 2))]);
  const [failure] = neighbours.failures();
  assert.equal(failure?.what, `the neighbour 10.65.0.1 on ${name}`);
  neighbours.deleteDesired(name, neighbour(1, 1));
  assert.deepEqual(neighbours.failures(), []);
});
