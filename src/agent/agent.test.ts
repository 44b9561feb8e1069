import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { looseSupervisor } from '../async/supervise.fixture.ts';
import type { EntryChange, EntryChanges } from '../cache/mirror.ts';
import { parseAddress } from '../ip/address.ts';
import { parseNet } from '../ip/cidr.ts';
import type { Profile } from '../model/kinds/profile.ts';
import { endpointAnnotations, type WorkloadEndpoint } from '../model/kinds/workload-endpoint.ts';
import { Agent } from './agent.ts';
import { FakeKernel } from './fake-kernel.fixture.ts';

const apiVersion = 'projectcalico.org/v3';
const silent = { error: () => 0, warn: () => 0, info: () => 0, debug: () => 0 };
const networkId = 'n'.repeat(64);

/** The agent of host `here`, with a kernel in memory and a datastore filled by the test. */
class Lab {
  readonly kernel = new FakeKernel();
  readonly stop = new AbortController();
  readonly mirror = {
    inSync: true,
    subscribe: (listener: (changes: EntryChanges) => void) => {
      this.#listener = listener;
      return () => (this.#listener = () => undefined);
    },
    cachedInBrief: () => new Map(),
  };
  readonly agent: Agent;
  #listener: (changes: EntryChanges) => void = () => undefined;

  constructor(
    options: { readonly isInSync?: boolean; readonly endsForbiddenFlows?: boolean } = {},
  ) {
    this.mirror.inSync = options.isInSync ?? true;
    this.agent = new Agent({
      node: 'here',
      families: [4, 6],
      drivers: this.kernel,
      mirror: this.mirror,
      supervisor: looseSupervisor(),
      hostPorts: { reserve: async () => 0, release: () => undefined, undeliveredAt: () => 0 },
      ipv6Forwarding: {
        isOwn: false,
        switchOn: () => undefined,
        keepAdvertisements: () => undefined,
      },
      statics: { endpointToHostAction: 'Return' },
      resolvesNames: true,
      endsForbiddenFlows: options.endsForbiddenFlows ?? true,
      log: silent,
    });
  }

  tell(revision: bigint, ...changes: readonly EntryChange[]): void {
    this.#listener({ revision, isLive: true, changes, briefs: [] });
  }

  /** Returns the journal from a change to the end of the next apply round. */
  async written(change: () => void): Promise<readonly string[]> {
    const { journal, rounds } = this.kernel;
    const from = journal.length;
    change();
    await until(() => this.kernel.rounds > rounds);
    return journal.slice(from);
  }

  /** Returns the state after a datastore change and one apply round. */
  async told(revision: bigint, ...changes: readonly EntryChange[]): Promise<readonly string[]> {
    return this.written(() => this.tell(revision, ...changes));
  }
}

async function until(isMet: () => boolean): Promise<void> {
  for (let tries = 0; !isMet(); tries++) {
    assert.ok(tries < 3000, 'it does not come');
    await pause(1);
  }
}

async function withAgent(
  use: (lab: Lab) => Promise<void>,
  options: ConstructorParameters<typeof Lab>[0] = {},
): Promise<void> {
  const lab = new Lab(options);
  try {
    lab.agent.start(lab.stop.signal);
    await use(lab);
  } finally {
    lab.stop.abort();
  }
}

function stored<Value>(id: string, value: Value) {
  return { id, value, modRevision: 1n };
}

function endpoint(id: string, address = '10.0.0.1/32', node = 'here'): WorkloadEndpoint {
  return {
    kind: 'WorkloadEndpoint',
    apiVersion,
    metadata: {
      name: id,
      namespace: 'libnetwork',
      annotations: { [endpointAnnotations.network]: networkId },
    },
    spec: {
      orchestrator: 'libnetwork',
      node,
      endpoint: id,
      interfaceName: `cali${id}`,
      ipNetworks: [parseNet(address)],
      profiles: ['web'],
    },
  };
}

function comes(value: WorkloadEndpoint): EntryChange {
  const id = value.metadata.name;
  return { kind: 'WorkloadEndpoint', id, before: undefined, now: stored(id, value) };
}

function goes(value: WorkloadEndpoint): EntryChange {
  const id = value.metadata.name;
  return { kind: 'WorkloadEndpoint', id, before: stored(id, value), now: undefined };
}

function profile(ingress: NonNullable<Profile['spec']['ingress']>): EntryChange {
  const value: Profile = {
    kind: 'Profile',
    apiVersion,
    metadata: { name: 'web' },
    spec: { labelsToApply: { web: '' }, ingress, egress: [{ action: 'Allow' }] },
  };
  return { kind: 'Profile', id: 'web', before: undefined, now: stored('web', value) };
}

const fromWeb = profile([{ action: 'Allow', source: { selector: 'has(web)' } }]);

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

test('a new container: sets and members, then chains, then its route; each written once', () =>
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
    assert.ok(last(/^add 10\.0\.0\.1/) < first(/^chain 4 filter/), 'and are full');
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
  }));

test('a failed apply round is repeated from the actual kernel state', () =>
  withAgent(async (lab) => {
    await lab.told(1n, fromWeb);
    lab.kernel.refuses.add('phase tables');
    lab.tell(2n, comes(endpoint('e1')));
    await until(() => lab.agent.health.inSyncSince === undefined);
    assert.match(lab.agent.health.lastError?.what ?? '', /tables failed/);
    assert.equal(lab.kernel.routes.size, 0, 'no packets come where policy is not in force');
    const from = lab.kernel.journal.length;
    lab.kernel.refuses.clear();
    await until(() => lab.agent.health.inSyncSince !== undefined);
    assert.ok(lab.kernel.journal.slice(from).includes('resync'));
    assert.ok(lab.agent.isProgrammed(endpoint('e1')));
  }));

test('the failure of one manager does not stop the others, and is reported', () =>
  withAgent(async (lab) => {
    lab.kernel.refuses.add('flows');
    await lab.told(1n, fromWeb, comes(endpoint('e1')));
    assert.ok(lab.agent.isProgrammed(endpoint('e1')));
    assert.deepEqual(lab.agent.health.failures, [
      { what: 'end of flows that no rule allows', why: 'flows cannot be listed' },
    ]);
    assert.notEqual(lab.agent.health.inSyncSince, undefined);
    lab.kernel.refuses.clear();
    await until(() => lab.agent.health.failures.length === 0);
  }));

test('a lost event, or one that a handler failed on, causes a full resync', () =>
  withAgent(async (lab) => {
    assert.ok(
      (await lab.told(1n, fromWeb, comes(endpoint('e1')))).includes('resync'),
      'the first round reads all',
    );
    assert.ok(
      !(await lab.told(2n, comes(endpoint('e2', '10.0.0.2/32')))).includes('resync'),
      'the next ones do not',
    );
    const overrun = () => lab.agent.onKernelEvents([{ kind: 'overrun' }]);
    assert.ok((await lab.written(overrun)).includes('resync'));
    lab.kernel.nextEventFails = true;
    const before = lab.kernel.events.length;
    const event = { kind: 'nftables' as const, processId: 1 };
    const two = () => lab.agent.onKernelEvents([event, event]);
    assert.ok((await lab.written(two)).includes('resync'));
    assert.ok(lab.kernel.events.length > before, 'the other event was taken');
  }));

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

test('changes that the kernel does not report are found by polling and repaired', () =>
  withAgent(async (lab) => {
    await lab.told(1n, fromWeb, comes(endpoint('e1')));
    const [name, set] =
      [...lab.kernel.ipset.sets].find(([, { members }]) => members.has('10.0.0.1/32')) ??
      assert.fail();
    set.members.clear();
    await until(() => lab.kernel.members(name).length > 0);
    assert.deepEqual(lab.kernel.members(name), ['10.0.0.1/32']);
    // The kernel rejected chains that named a set which could not be created.
    const { create } = lab.kernel.ipset;
    lab.kernel.ipset.create = () => {
      throw new Error('no memory');
    };
    await lab.told(2n, profile([{ action: 'Allow', source: { selector: 'has(other)' } }]));
    assert.equal(lab.agent.health.failures.length > 0, true);
    lab.kernel.ipset.create = create;
    await until(() => lab.kernel.journal.includes('retry refused chains'));
    await until(() => lab.agent.health.failures.length === 0);
  }));

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
