import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { parseAddress } from '../ip/address.ts';
import { hostCidr } from '../ip/cidr.ts';
import { NameIndex, type NamedEndpoint } from './name-index.ts';
import { resolveAddress, resolveName, rotated } from './resolve.ts';

const here = 'host-1';

function endpoint(node: string, name: string | undefined, more: Partial<NamedEndpoint> = {}) {
  return { node, network: 'web', name, aliases: [], nets: [], ...more };
}

function at(...addresses: readonly string[]) {
  return { nets: addresses.map((one) => hostCidr(parseAddress(one))) };
}

function indexOf(...endpoints: readonly NamedEndpoint[]): NameIndex {
  const index = new NameIndex(here);
  for (const [number, one] of endpoints.entries()) index.set(`e${number}`, one);
  return index;
}

const asker = { node: here, networks: ['web'] };

describe('a name means', () => {
  test('the container of another host, whatever the case of the letters', () => {
    const index = indexOf(endpoint('host-2', 'Api', at('10.0.0.1')));
    assert.deepEqual(resolveName(index, asker, 'aPI'), ['10.0.0.1']);
    assert.deepEqual(resolveName(index, asker, 'api.WEB'), ['10.0.0.1']);
  });

  test("what Docker knows if this host has a container of the name, on whichever of the asker's networks", () => {
    const index = indexOf(
      endpoint('host-2', 'api', { network: 'a', ...at('10.0.0.1') }),
      endpoint(here, 'api', { network: 'b', ...at('10.0.0.2') }),
    );
    assert.equal(resolveName(index, { node: here, networks: ['a', 'b'] }, 'api'), undefined);
    assert.deepEqual(resolveName(index, { node: here, networks: ['a'] }, 'api'), ['10.0.0.1']);
  });

  test('as an alias the containers of all hosts, and as a name those of other hosts too unless this host has one', () => {
    const index = indexOf(
      endpoint(here, 'web-1', { aliases: ['shop'], ...at('10.0.0.1') }),
      endpoint('host-2', 'web-1', { aliases: ['shop'], ...at('10.0.0.2') }),
      endpoint('host-3', 'shop', at('10.0.0.3')),
      endpoint('host-2', 'db', at('10.0.0.4')),
      endpoint('host-3', 'db', at('10.0.0.5')),
    );
    assert.deepEqual(resolveName(index, asker, 'shop'), ['10.0.0.1', '10.0.0.2', '10.0.0.3']);
    assert.deepEqual(resolveName(index, asker, 'db'), ['10.0.0.4', '10.0.0.5']);
    assert.equal(resolveName(index, asker, 'web-1'), undefined);
  });

  test('one address of each family of a container, the first', () => {
    const index = indexOf(
      endpoint('host-2', 'api', at('10.0.0.1', 'fd00::1', '10.0.0.200', 'fd00::200')),
    );
    assert.deepEqual(resolveName(index, asker, 'api'), ['10.0.0.1', 'fd00::1']);
  });

  test('a container with dots in its name, or in the name of its network', () => {
    const index = indexOf(
      endpoint('host-2', 'a.b', { network: 'c.d', ...at('10.0.0.1') }),
      endpoint('host-2', 'a', { network: 'b.c.d', ...at('10.0.0.2') }),
    );
    const on = (...networks: readonly string[]) => ({ node: here, networks });
    assert.deepEqual(resolveName(index, on('c.d'), 'a.b'), ['10.0.0.1']);
    assert.deepEqual(resolveName(index, on('c.d', 'b.c.d'), 'a.b.c.d'), ['10.0.0.1']);
    assert.deepEqual(resolveName(index, on('b.c.d'), 'a.b.c.d'), ['10.0.0.2']);
  });

  test('nothing on networks that differ in the case of letters: they are two networks of Docker', () => {
    const index = indexOf(endpoint('host-2', 'api', { network: 'Web', ...at('10.0.0.1') }));
    assert.equal(resolveName(index, asker, 'api'), undefined);
    assert.equal(resolveName(index, asker, 'api.Web'), undefined);
  });
});

test('an address has a name if it is of another host and on a network of the asker', () => {
  const index = indexOf(
    endpoint('host-2', 'api', at('10.0.0.1', 'fd00::1')),
    endpoint('host-2', 'far', { network: 'other', ...at('10.0.0.2') }),
    endpoint(here, 'own', at('10.0.0.3')),
  );
  const name = (address: string) => resolveAddress(index, asker, parseAddress(address));
  assert.equal(name('10.0.0.1'), 'api.web');
  assert.equal(name('fd00::1'), 'api.web');
  for (const address of ['10.0.0.2', '10.0.0.3', '10.0.0.4'])
    assert.equal(name(address), undefined);
});

test('a rotated list has the same items, and each can be the first', () => {
  assert.deepEqual(rotated([1, 2, 3], 4), [2, 3, 1]);
  assert.deepEqual(rotated([], 4), []);
});

const name = fc.constantFrom('a', 'b', 'a.b', 'A');
const network = fc.constantFrom('web', 'b', 'other');
const someEndpoint: fc.Arbitrary<NamedEndpoint> = fc.record({
  node: fc.constantFrom(here, 'host-2', 'host-3'),
  network,
  name: fc.option(name, { nil: undefined }),
  aliases: fc.array(name, { maxLength: 2 }),
  nets: fc.integer({ min: 1, max: 250 }).map((last) => [hostCidr(parseAddress(`10.0.0.${last}`))]),
});
const change = fc.record({
  id: fc.constantFrom('e1', 'e2', 'e3', 'e4'),
  now: fc.option(someEndpoint, { nil: undefined }),
});
const queried = fc.constantFrom('a', 'b', 'a.b', 'a.web', 'a.b.b', 'a.other', 'x');

test('the answer follows from the present endpoints alone, whatever was before, and is only of networks of the asker', () => {
  fc.assert(
    fc.property(
      fc.array(change),
      fc.uniqueArray(network),
      queried,
      (changes, networks, question) => {
        const index = new NameIndex(here);
        const present = new Map<string, NamedEndpoint>();
        for (const { id, now } of changes) {
          index.set(id, now);
          if (now === undefined) present.delete(id);
          else present.set(id, now);
        }
        const fresh = new NameIndex(here);
        for (const [id, one] of present) fresh.set(id, one);
        const from = { node: here, networks };
        const answer = resolveName(index, from, question);
        assert.deepEqual(answer?.toSorted(), resolveName(fresh, from, question)?.toSorted());
        assert.equal(index.size, present.size);
        for (const one of networks) {
          const remote = [...present.values()].some(
            (endpoint) => endpoint.network === one && endpoint.node !== here,
          );
          assert.equal(index.hasRemote(one), remote);
        }
        const on: ReadonlySet<string> = new Set(networks);
        const reachable = new Set(
          [...present.values()]
            .filter((endpoint) => on.has(endpoint.network))
            .flatMap(({ nets }) => nets),
        );
        for (const address of answer ?? []) assert.ok(reachable.has(hostCidr(address)));
      },
    ),
  );
});
