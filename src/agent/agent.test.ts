import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import type { EntryChange } from '../cache/mirror.ts';
import { parseAddress } from '../ip/address.ts';
import { parseCidr, parseNet } from '../ip/cidr.ts';
import type { EntryValue } from '../model/kinds/index.ts';
import type { GlobalNetworkPolicy } from '../model/kinds/global-network-policy.ts';
import type { NetworkSet } from '../model/kinds/network-set.ts';
import type { IpPool } from '../model/kinds/ip-pool.ts';
import type { Tier } from '../model/kinds/tier.ts';
import { endpointAnnotations, type WorkloadEndpoint } from '../model/kinds/workload-endpoint.ts';
import {
  apiVersion,
  comes,
  endpoint,
  fromWeb,
  goes,
  Lab,
  profile,
  stored,
  until,
  withAgent,
} from './agent-lab.fixture.ts';

test('nothing is written before the first listing, then everything is written', () =>
  withAgent(
    async (lab) => {
      lab.agent.onKernelEvents([{ kind: 'overrun' }]);
      lab.agent.linkMade('cali1', { hasIpv6: false });
      await pause(20);
      assert.deepEqual(lab.kernel.journal, []);
      assert.equal(lab.agent.health.inSyncSince, undefined);
      lab.mirror.inSync = true;
      const journal = await lab.told(1n);
      assert.ok(journal.includes('hook 4 filter FORWARD'), journal.join('; '));
      assert.notEqual(lab.agent.health.inSyncSince, undefined);
    },
    { isInSync: false },
  ));

test('a new container: selector sets, then chains, then its dispatch, then its route; each written once', () =>
  withAgent(async (lab) => {
    await lab.told(1n, fromWeb);
    const journal = await lab.told(2n, comes(endpoint('e1')));
    const first = (pattern: RegExp) => {
      const at = journal.findIndex((what) => pattern.test(what));
      assert.ok(at >= 0, `${pattern} in ${journal.join('; ')}`);
      return at;
    };
    const last = (pattern: RegExp) => journal.findLastIndex((what) => pattern.test(what));
    assert.ok(first(/^make set/) < first(/^chain 4 filter/), 'rules name sets that are there');
    assert.ok(first(/^add 10\.0\.0\.1\/32(?!,)/) < first(/^chain 4 filter/), 'and are full');
    assert.ok(
      first(/^add 10\.0\.0\.1\/32,cali/) > last(/^chain/),
      'a packet meets complete chains, or none',
    );
    assert.ok(
      last(/^chain/) < first(/^route endpoint 10\.0\.0\.1\/32/),
      'policy is there before packets',
    );
    assert.equal(lab.kernel.routes.get('endpoint 10.0.0.1/32'), 'calie1');
    assert.equal(journal.filter((what) => what.startsWith('route ')).length, 1);
    assert.ok(lab.agent.isProgrammed(endpoint('e1')));
    const after = await lab.told(3n, goes(endpoint('e1')));
    const removal = after.findIndex((what) => what.startsWith('remove 10.0.0.1/32,calie1'));
    const unrouted = after.findIndex((what) => what === 'no route endpoint 10.0.0.1/32');
    assert.ok(removal >= 0 && unrouted > removal, after.join('; '));
    assert.equal(lab.kernel.routes.size, 0);
    assert.ok(!lab.agent.isProgrammed(endpoint('e1')));
  }));

test('a container of another host is a member of selector sets and has no route here', () =>
  withAgent(async (lab) => {
    await lab.told(
      1n,
      fromWeb,
      comes(endpoint('e1')),
      comes(endpoint('e2', '10.0.0.2/32', 'there')),
    );
    const selected = [...lab.kernel.ipset.sets].filter(([, { members }]) =>
      members.has('10.0.0.2/32'),
    );
    assert.equal(selected.length, 1);
    assert.deepEqual([...lab.kernel.routes.keys()], ['endpoint 10.0.0.1/32']);
  }));

test('Join returns when the kernel has the datastore state of its revision, not before', () =>
  withAgent(async (lab) => {
    let isAnswered = false;
    const answer = lab.agent.programmed('e1', 7n, lab.stop.signal).then(() => (isAnswered = true));
    await lab.told(5n, fromWeb, comes(endpoint('e1', '10.0.0.9/32')));
    await lab.told(6n);
    assert.ok(lab.agent.isProgrammed(endpoint('e1', '10.0.0.9/32')), 'as it was before');
    assert.equal(isAnswered, false, 'but its own change has not come');
    lab.tell(7n, comes(endpoint('e1')));
    await answer;
    assert.ok(lab.agent.isProgrammed(endpoint('e1')));
    await lab.agent.programmed('e1', 7n, lab.stop.signal);
    await lab.agent.programmed('unknown', 7n, lab.stop.signal);
  }));

test('a failed Join names the reason: not received, rejected, or the apply round failed', () =>
  withAgent(async (lab) => {
    const refusalOf = async (revision: bigint): Promise<string> => {
      const impatient = new AbortController();
      const answer = lab.agent.programmed('e1', revision, impatient.signal).then(
        () => assert.fail('it is not'),
        (error: unknown) => String(error),
      );
      await pause(5);
      impatient.abort();
      return answer;
    };
    lab.kernel.refuses.add('route 10.0.0.1/32');
    await lab.told(3n, fromWeb, comes(endpoint('e1')));
    assert.match(await refusalOf(3n), /route 10\.0\.0\.1\/32: EINVAL/);
    assert.deepEqual(lab.agent.health.failures, [
      { what: 'route 10.0.0.1/32', why: 'EINVAL', net: '10.0.0.1/32' },
    ]);
    assert.match(await refusalOf(9n), /the datastore has not told of it yet/);
    lab.kernel.refuses.clear();
    lab.kernel.refuses.add('phase tables');
    lab.tell(4n, comes(endpoint('e1', '10.0.0.5/32')));
    await until(() => lab.agent.health.lastError !== undefined);
    assert.match(await refusalOf(4n), /tables failed/);
    lab.kernel.refuses.clear();
    await until(() => lab.agent.health.inSyncSince !== undefined);
    lab.mirror.inSync = false;
    lab.tell(5n, comes(endpoint('e1', '10.0.0.6/32')));
    assert.match(await refusalOf(5n), /endpoint e1.*: tables failed/);
  }));

test('a Join that nothing failed for says that it takes too long', () =>
  withAgent(
    async (lab) => {
      lab.tell(1n, comes(endpoint('e1')));
      const answer = lab.agent.programmed('e1', 1n, AbortSignal.abort());
      await assert.rejects(answer, /it takes too long/);
    },
    { isInSync: false },
  ));

test('each kind of resource reaches what it decides', () =>
  withAgent(async (lab) => {
    const metadata = (name: string, labels = {}) => ({ name, labels });
    const of = <Value extends { readonly metadata: { readonly name: string } }>(value: Value) => {
      const { name: id } = value.metadata;
      return { id, before: undefined, now: stored(id, value) };
    };
    const withNat = (id: string, address: string, node = 'here') => {
      const plain = endpoint(id, address, node);
      const annotations = {
        ...plain.metadata.annotations,
        [endpointAnnotations.natOutgoing]: 'true',
      };
      return comes({ ...plain, metadata: { ...plain.metadata, annotations } });
    };
    await lab.told(
      1n,
      fromWeb,
      withNat('e1', '10.0.0.1/32'),
      withNat('e2', '10.0.0.2/32', 'there'),
      {
        kind: 'IPPool',
        ...of<IpPool>({
          kind: 'IPPool',
          apiVersion,
          metadata: metadata('p'),
          spec: { cidr: parseCidr('10.0.0.0/16'), natOutgoing: true },
        }),
      },
      {
        kind: 'GlobalNetworkSet',
        ...of<Extract<NetworkSet, { kind: 'GlobalNetworkSet' }>>({
          kind: 'GlobalNetworkSet',
          apiVersion,
          metadata: metadata('s', { web: '' }),
          spec: { nets: [parseNet('192.0.2.0/24')] },
        }),
      },
    );
    const sets = (member: string) =>
      [...lab.kernel.ipset.sets].flatMap(([name, { members }]) =>
        members.has(member) ? [name] : [],
      );
    assert.deepEqual(sets('10.0.0.0/16').toSorted(), [
      'cali40all-ipam-pools',
      'cali40masq-ipam-pools',
    ]);
    assert.ok(sets('10.0.0.1/32').includes('cali40masq-endpoints'));
    assert.ok(!sets('10.0.0.2/32').includes('cali40masq-endpoints'), 'of another host');
    assert.deepEqual(sets('192.0.2.0/24'), sets('10.0.0.2/32'), 'has(web)');
    const value: GlobalNetworkPolicy = {
      kind: 'GlobalNetworkPolicy',
      apiVersion,
      metadata: metadata('g'),
      spec: { tier: 'late', selector: 'all()', ingress: [{ action: 'Deny' }] },
    };
    const policy = { kind: 'GlobalNetworkPolicy' as const, ...of(value) };
    const tier = (defaultAction: 'Pass' | 'Deny'): EntryChange => ({
      kind: 'Tier',
      ...of<Tier>({
        kind: 'Tier',
        apiVersion,
        metadata: metadata('late'),
        spec: { order: 5, defaultAction },
      }),
    });
    const state = () => [...lab.kernel.chains].map((chain) => chain.join(' ')).toSorted();
    const without = state();
    await lab.told(2n, policy, tier('Deny'));
    const denying = state();
    assert.notDeepEqual(denying, without);
    await lab.told(3n, tier('Pass'));
    assert.notDeepEqual(state(), denying);
    // Its rules and its tier at once take two rounds, and Join waits for both.
    lab.tell(4n, {
      ...policy,
      now: stored('g', { ...value, spec: { ...value.spec, tier: 'next', ingress: [] } }),
    });
    await lab.agent.programmed('e1', 4n, lab.stop.signal);
    assert.doesNotMatch(state().join('\n'), /is being replaced/);
  }));

test('each manager has a name of its own, by which its failures are reported', () => {
  const names = new Lab().agent.managers.all.map(({ name }) => name);
  assert.equal(new Set(names).size, names.length);
  assert.ok(!names.includes(''), names.join(', '));
});

test('connections that a changed Profile forbids are flushed once its rules are programmed, and only if the setting asks for it', async () => {
  const flow = (source: string, destination: string) => ({
    family: 4 as const,
    source: parseAddress(source),
    destination: parseAddress(destination),
    answerer: parseAddress(destination),
    protocol: 6,
    sourcePort: 40_000,
    destinationPort: 80,
    answeringPort: 80,
    mark: 0,
    tuple: Buffer.of(),
  });
  for (const endsForbiddenFlows of [true, false]) {
    await withAgent(
      async (lab) => {
        await lab.told(
          1n,
          fromWeb,
          comes(endpoint('e1')),
          comes(endpoint('e2', '10.0.0.2/32', 'there')),
        );
        const flows = [
          flow('10.0.0.2', '10.0.0.1'),
          flow('10.0.0.1', '10.0.0.2'),
          flow('10.0.0.7', '10.0.0.8'),
        ];
        lab.kernel.flows = [...flows];
        await lab.told(
          2n,
          profile([{ action: 'Allow', source: { nets: [parseNet('10.0.0.2/32')] } }]),
        );
        assert.deepEqual(lab.kernel.flows, flows, 'still allowed');
        await lab.told(3n, profile([{ action: 'Deny' }]));
        assert.deepEqual(lab.kernel.flows, endsForbiddenFlows ? flows.slice(1) : flows);
        // Rules removed by another program let forbidden connections start; these are flushed whatever the setting.
        lab.kernel.flows = [...flows];
        lab.kernel.lost = 1;
        await lab.told(4n);
        assert.deepEqual(lab.kernel.flows, flows.slice(1));
      },
      { endsForbiddenFlows },
    );
  }
});

test('connections to expired addresses of a domain name continue, also over a restart, until a rule or set forbids the name', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'domain-addresses-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const domainAddressesFile = join(folder, 'domain-addresses.json');
  const addresses = [
    { address: '198.51.100.7', until: 1 },
    { address: '198.51.100.8', until: Date.now() + 60_000 },
  ];
  const names = [{ name: 'api.example.com', addresses }];
  writeFileSync(domainAddressesFile, JSON.stringify({ format: 1, names }));
  const flows = ['198.51.100.7', '198.51.100.8', '198.51.100.9'].map((destination) => ({
    family: 4 as const,
    source: parseAddress('10.0.0.1'),
    destination: parseAddress(destination),
    answerer: parseAddress(destination),
    protocol: 6,
    sourcePort: 40_000,
    destinationPort: 443,
    answeringPort: 443,
    mark: 0,
    tuple: Buffer.of(),
  }));
  const setOf = (domain: string): EntryChange => {
    const value: EntryValue<'GlobalNetworkSet'> = {
      kind: 'GlobalNetworkSet',
      apiVersion,
      metadata: { name: 'api', labels: { set: 'api' } },
      spec: { allowedEgressDomains: [domain] },
    };
    return { kind: 'GlobalNetworkSet', id: 'api', before: undefined, now: stored('api', value) };
  };
  const toSet = (selector: string): EntryChange => {
    const value: EntryValue<'Profile'> = {
      kind: 'Profile',
      apiVersion,
      metadata: { name: 'web' },
      spec: { egress: [{ action: 'Allow', destination: { selector } }] },
    };
    return { kind: 'Profile', id: 'web', before: undefined, now: stored('web', value) };
  };
  for (const forbids of [setOf('other.example.com'), toSet('set == "other"')]) {
    await withAgent(
      async (lab) => {
        lab.kernel.flows = [...flows];
        await lab.told(1n, comes(endpoint('e1')), setOf('api.example.com'), toSet('set == "api"'));
        assert.deepEqual(lab.kernel.flows, flows.slice(0, 2));
        await lab.told(2n, forbids);
        assert.deepEqual(lab.kernel.flows, []);
      },
      { domainAddressesFile },
    );
  }
});

test('connections that an endpoint change forbids are flushed: a change of Profiles, and of labels', () =>
  withAgent(async (lab) => {
    const own = endpoint('e1');
    await lab.told(1n, fromWeb, comes(own), comes(endpoint('e2', '10.0.0.2/32')));
    const flow = {
      family: 4 as const,
      source: parseAddress('10.0.0.2'),
      destination: parseAddress('10.0.0.1'),
      answerer: parseAddress('10.0.0.1'),
      protocol: 6,
      sourcePort: 40_000,
      destinationPort: 80,
      answeringPort: 80,
      mark: 0,
      tuple: Buffer.of(),
    };
    const changes = (from: WorkloadEndpoint, to: WorkloadEndpoint): EntryChange => ({
      kind: 'WorkloadEndpoint',
      id: to.metadata.name,
      before: stored('e1', from),
      now: stored('e1', to),
    });
    lab.kernel.flows = [flow];
    const moved = { ...own, metadata: { ...own.metadata, labels: { team: 'a' } } };
    await lab.told(2n, changes(own, moved));
    assert.deepEqual(lab.kernel.flows, [flow], 'they are looked at, and this one is allowed');
    const alone = { ...moved, spec: { ...moved.spec, profiles: ['none'] } };
    await lab.told(3n, changes(moved, alone));
    assert.deepEqual(lab.kernel.flows, []);
    lab.kernel.flows = [flow];
    await lab.told(4n, changes(alone, alone));
    assert.deepEqual(lab.kernel.flows, [flow], 'nothing has changed: nothing is looked at');
  }));
