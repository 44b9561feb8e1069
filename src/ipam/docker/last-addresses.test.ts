import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseAddress } from '../../ip/address.ts';
import { parseCidr } from '../../ip/cidr.ts';
import { withIpam, type Lab } from '../ipam-lab.fixture.ts';
import { LastAddresses } from './last-addresses.ts';

/** A clock that the test sets, and the last addresses of containers. */
function memory() {
  const clock = { ms: 1_000_000 };
  const last = new LastAddresses(() => clock.ms);
  const address = (container: string) => parseAddress(`10.65.0.${container.charCodeAt(0) - 96}`);
  return {
    clock,
    last,
    address,
    starts: (container: string) =>
      last.used({
        address: address(container),
        network: 'web',
        container,
        containerId: `id-${container}`,
      }),
    stops: (container: string) => last.freed(address(container)),
    /** Returns the address for a request without a container name. */
    unnamed: () => last.addressFor({ family: 4, network: 'web', container: undefined }),
  };
}

test('without a name the only recently stopped container is chosen, else the only stopped one', () => {
  const { clock, last, starts, stops, unnamed, address } = memory();
  for (const container of ['a', 'b', 'c']) starts(container);
  assert.equal(unnamed(), undefined, 'none has stopped');
  stops('a');
  assert.equal(unnamed(), address('a'));
  clock.ms += 60_000;
  assert.equal(unnamed(), address('a'), 'the only one that is stopped');
  stops('b');
  assert.equal(unnamed(), address('b'), 'the only one that stopped just now');
  stops('c');
  assert.equal(unnamed(), undefined, 'two stopped just now');
  clock.ms += 60_000;
  assert.equal(unnamed(), undefined, 'three are stopped');
  starts('b');
  starts('c');
  last.containerGone('id-a');
  assert.equal(unnamed(), undefined, 'what was removed does not start');
});

test('the former address of a container that got another is kept from others for a minute', () => {
  const { clock, last, starts, address } = memory();
  starts('a');
  const other = parseAddress('10.65.0.99');
  const started = { network: 'web', container: 'a', containerId: 'id-a' };
  const named = (of: LastAddresses) => of.addressFor({ family: 4, network: 'web', container: 'a' });
  last.used({ ...started, address: other });
  assert.equal(named(last), other);
  assert.ok(last.isKept(address('a')) && last.isKept(other));
  const restored = new LastAddresses(() => clock.ms);
  restored.restore(last.all());
  assert.equal(named(restored), other);
  assert.ok(!restored.isKept(address('a')));
  clock.ms += 60_000;
  assert.ok(!last.isKept(address('a')) && last.isKept(other));
  last.used({ ...started, address: address('a') });
  assert.equal(named(last), address('a'));
});

test('a recently created container is chosen, by its final name', () => {
  const { clock, last, starts, stops, unnamed, address } = memory();
  starts('a');
  starts('b');
  stops('b');
  clock.ms += 60_000;
  last.containerNamed('new', 'nobody', true);
  assert.equal(unnamed(), undefined, 'a new container is not the stopped one');
  last.containerStarted('new');
  assert.equal(unnamed(), address('b'));
  // Compose names a new container like this.
  last.containerNamed('newer', '0123456789ab_a', true);
  stops('a');
  last.containerGone('id-a');
  assert.equal(unnamed(), address('a'));
  last.containerNamed('newer', 'a', false);
  assert.equal(unnamed(), address('a'));
});

test('the address of a removed container is kept for its name for a minute, and preferred as long as it is free', () => {
  const { clock, last, starts, stops, address } = memory();
  starts('a');
  stops('a');
  const named = () => last.addressFor({ family: 4, network: 'web', container: 'a' });
  last.containersAre(new Set(['id-a']));
  clock.ms += 3_600_000;
  assert.ok(last.isKept(address('a')));
  last.containersAre(new Set());
  clock.ms += 59_000;
  assert.ok(last.isKept(address('a')));
  clock.ms += 2000;
  assert.ok(!last.isKept(address('a')));
  assert.equal(named(), address('a'));
  last.used({
    address: address('a'),
    network: 'web',
    container: 'other',
    containerId: 'id-other',
  });
  assert.equal(named(), undefined);
});

/** Creates a network of host-a, whose engine sends container names as Docker 29 does; returns its PoolID. */
async function network(lab: Lab): Promise<string> {
  const pool = await lab.pool('host-a', '10.99.0.0/24');
  await lab.adopt('host-a', 'net1', [pool]);
  return String(pool['PoolID']);
}

async function start(lab: Lab, poolId: string, container: string): Promise<string> {
  const options = { 'com.docker.network.endpoint.name': container };
  const given = await lab.address('host-a', poolId, undefined, options);
  const endpointId = `${container}-${given}`;
  await lab.connect('host-a', 'net1', { endpointId, address: given });
  const address = parseAddress(given);
  lab.last.used({ address, network: 'net1', container, containerId: container });
  return given;
}

async function stop(lab: Lab, poolId: string, container: string, given: string): Promise<void> {
  await lab.disconnect('host-a', `${container}-${given}`);
  await lab.release('host-a', poolId, given);
}

test('after any starts and stops a container gets its address again unless no other address was free', () =>
  fc.assert(
    fc.asyncProperty(
      fc.array(fc.constantFrom('aa', 'bb', 'cc', 'dd', 'ee', 'ff'), { maxLength: 24 }),
      (turns) =>
        withIpam(async (lab) => {
          const poolId = await network(lab);
          const had = new Map<string, string>();
          const running = new Set<string>();
          for (const container of turns) {
            const given = had.get(container);
            if (given !== undefined && running.delete(container)) {
              await stop(lab, poolId, container, given);
              continue;
            }
            const now = await start(lab, poolId, container);
            running.add(container);
            assert.equal(now, given ?? now);
            had.set(container, now);
          }
          assert.equal(new Set(had.values()).size, had.size, 'none got that of another');
        }),
    ),
    { numRuns: 20 },
  ));

test('--ip and reservations take precedence over the last address of a container', () =>
  withIpam(async (lab) => {
    const poolId = await network(lab);
    const first = await start(lab, poolId, 'aa');
    await stop(lab, poolId, 'aa', first);
    assert.equal(await lab.address('host-a', poolId, first), first, 'asked for by --ip');
    const second = await start(lab, poolId, 'aa');
    assert.notEqual(second, first);
    await stop(lab, poolId, 'aa', second);
    await lab.writer.write(
      (draft) =>
        draft.put('IPReservation', 'r', {
          kind: 'IPReservation',
          apiVersion: 'projectcalico.org/v3',
          metadata: { name: 'r' },
          spec: { reservedCIDRs: [parseCidr(`${second}/32`)] },
        }),
      AbortSignal.timeout(60_000),
    );
    assert.notEqual(await start(lab, poolId, 'aa'), second);
  }));

test('an address released by a killed dockerd is allocated to its container again although its endpoint still exists', () =>
  withIpam(async (lab) => {
    const poolId = await network(lab);
    const given = await start(lab, poolId, 'aa');
    await lab.release('host-a', poolId, given);
    assert.notEqual(await start(lab, poolId, 'bb'), given);
    assert.equal(await start(lab, poolId, 'aa'), given);
  }));

test('kept addresses are allocated if the host has no others', () =>
  withIpam(async (lab) => {
    const pool = await lab.pool('host-a', '10.99.0.0/30');
    await lab.adopt('host-a', 'net1', [pool]);
    const poolId = String(pool['PoolID']);
    const given: string[] = [];
    for (const container of ['aa', 'bb', 'cc', 'dd'])
      given.push(await start(lab, poolId, container));
    await stop(lab, poolId, 'bb', given[1] ?? '');
    await stop(lab, poolId, 'aa', given[0] ?? '');
    assert.equal(
      await start(lab, poolId, 'ee'),
      given[1],
      'the one that has been free for longest',
    );
  }));

test('a repeated release does not make a stopped container one that stopped just now', () => {
  const { clock, starts, stops, unnamed, address } = memory();
  for (const container of ['a', 'b']) starts(container);
  stops('a');
  clock.ms += 60_000;
  stops('b');
  stops('a');
  assert.equal(unnamed(), address('b'));
});
