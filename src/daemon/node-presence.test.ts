import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openMirroredStore } from '../cache/mirrored-store.fixture.ts';
import { raced, type Race } from '../cache/raced-store.fixture.ts';
import { GroupWriter } from '../cache/group-writer.ts';
import type { Mirror } from '../cache/mirror.ts';
import { bootstrap } from '../datastore/bootstrap.ts';
import { beingDeleted, livenessOf } from '../host/node-liveness.ts';
import { liveReportId, type HostIdentity } from '../model/kinds/node-report.ts';
import { FakeLeases, hostCalled, presenceOf } from './node-presence.fixture.ts';

const signal = AbortSignal.timeout(600_000);

/** Hosts of one datastore; every start of a daemon is one presence. */
async function withCluster(
  use: (cluster: {
    readonly mirror: Mirror;
    readonly start: (node: string, host?: HostIdentity) => Started;
    /** Removes the report of a node, as its lease does when it expires. */
    readonly expire: (node: string) => Promise<unknown>;
    readonly write: GroupWriter['write'];
    readonly race: Race;
  }) => Promise<void>,
): Promise<void> {
  const race: Race = { beforeCommit: undefined };
  await using store = await openMirroredStore((datastore) => raced(datastore, race));
  const leases = new FakeLeases();
  await use({
    mirror: store.mirror,
    start: (node, host = hostCalled(node)) => new Started(store, leases, { node, host }),
    expire: async (node) => {
      const lease = store.mirror.get('NodeReport', liveReportId(node))?.value.lease ?? '';
      await leases.revoke(lease);
      return store.writer.write((draft) => draft.remove('NodeReport', liveReportId(node)), signal);
    },
    write: (plan) => store.writer.write(plan, signal),
    race,
  });
}

class Started {
  readonly node: string;
  readonly presence;
  readonly writer: GroupWriter;

  constructor(
    { mirror }: Awaited<ReturnType<typeof openMirroredStore>>,
    leases: FakeLeases,
    { node, host }: { readonly node: string; readonly host: HostIdentity },
  ) {
    this.node = node;
    this.presence = presenceOf(node, { leases, host });
    this.writer = new GroupWriter(mirror, undefined, (draft) => this.presence.guard(draft));
  }

  claim(): Promise<void> {
    const plan = (draft: Parameters<typeof bootstrap>[0]) =>
      void bootstrap(draft, { nodeName: this.node, stamp: (resource) => resource });
    return this.presence.claim(this.writer, plan, signal);
  }

  renew(): Promise<void> {
    return this.presence.renew(this.writer, signal);
  }

  /** A write of the daemon, such as that of an endpoint. */
  write(id: string): Promise<unknown> {
    return this.writer.write((draft) => draft.put('Handle', id, {}), signal);
  }
}

test('a clone with the same name and machine ID is refused while the first lives', () =>
  withCluster(async ({ start, expire, mirror }) => {
    const first = start('host-a');
    await first.claim();
    const clone = start('host-a', hostCalled('b'));
    await assert.rejects(clone.claim(), {
      code: 'node/name-taken',
      message: /node name host-a is in use by another host.*MAC address 02:.*delete \/var\/lib/,
    });
    assert.match(clone.presence.checks()[0]?.detail ?? '', /in use by another host/);
    await first.renew();
    await expire('host-a');
    await clone.claim();
    assert.deepEqual(clone.presence.checks(), []);
    // The first is back from an outage, during which its report has expired.
    await assert.rejects(first.renew(), { code: 'node/name-taken' });
    await assert.rejects(first.write('x'), { code: 'node/name-taken' });
    assert.equal(mirror.get('Handle', 'x'), undefined);
    await clone.renew();
    await clone.write('y');
  }));

test('a restart, a reboot and a change of addresses take the name over without waiting', () =>
  withCluster(async ({ start }) => {
    const host = hostCalled('a');
    await start('host-a', host).claim();
    await start('host-a', host).claim();
    const rebooted = { ...host, bootId: 'another', networkNamespace: 'net:[7]' };
    await start('host-a', rebooted).claim();
    const withMoreInterfaces = { ...rebooted, bootId: 'third', macs: [...host.macs, '02:99'] };
    await start('host-a', withMoreInterfaces).claim();
    const newInterface = { ...withMoreInterfaces, macs: ['02:77'] };
    await start('host-a', newInterface).claim();
    // One of namespaces has the boot ID of another, and an image its machine ID.
    const inNamespace = { ...newInterface, networkNamespace: 'net:[8]', macs: ['02:88'] };
    await assert.rejects(start('host-a', inNamespace).claim(), { code: 'node/name-taken' });
  }));

test('the name of a node of Kubernetes is refused', () =>
  withCluster(async ({ start, write }) => {
    const orchRefs = [{ nodeName: 'worker-1', orchestrator: 'k8s' }];
    const metadata = { name: 'host-a' };
    const apiVersion = 'projectcalico.org/v3';
    await write(
      (draft) =>
        draft.put('Node', 'host-a', { kind: 'Node', apiVersion, metadata, spec: { orchRefs } }),
      signal,
    );
    await assert.rejects(start('host-a').claim(), {
      code: 'node/name-taken',
      message: /node worker-1 of k8s/,
    });
    await start('host-b').claim();
  }));

test('two hosts that start at once: one gets the name', () =>
  withCluster(async ({ start }) => {
    const hosts = ['a', 'b', 'c', 'd'].map((name) => start('host', hostCalled(name)));
    const outcomes = await Promise.allSettled(hosts.map((host) => host.claim()));
    assert.equal(outcomes.filter(({ status }) => status === 'fulfilled').length, 1);
  }));

test('a daemon that stops leaves its name at once, and says when it was seen last', () =>
  withCluster(async ({ start, mirror }) => {
    const first = start('host-a');
    await first.claim();
    const state = () =>
      livenessOf({ get: (kind, id) => mirror.get(kind, id)?.value }, 'host-a').state;
    assert.equal(state(), 'live');
    await first.presence.leave(first.writer);
    assert.equal(state(), 'gone');
    await start('host-a', hostCalled('b')).claim();
    assert.equal(state(), 'live');
  }));

test('a report that expired while the datastore was away is written again', () =>
  withCluster(async ({ start, expire, mirror }) => {
    const first = start('host-a');
    await first.claim();
    await expire('host-a');
    await first.renew();
    assert.notEqual(mirror.get('NodeReport', liveReportId('host-a')), undefined);
    await first.write('x');
  }));

test('a daemon whose node is deleted writes nothing more, and its next start joins anew', () =>
  withCluster(async ({ start, write, mirror }) => {
    const first = start('host-a');
    await first.claim();
    await first.write('x');
    await write((draft) => {
      const node = draft.get('Node', 'host-a');
      if (node !== undefined) draft.put('Node', 'host-a', beingDeleted(node, new Date()));
    }, signal);
    await assert.rejects(first.write('y'), { code: 'node/deleted' });
    await assert.rejects(start('host-a').claim(), { code: 'node/being-deleted' });
    await write((draft) => draft.remove('Node', 'host-a'), signal);
    await assert.rejects(first.renew(), { code: 'node/deleted' });
    await assert.rejects(first.write('y'), { code: 'node/deleted' });
    assert.equal(mirror.get('Node', 'host-a'), undefined);
    assert.equal(mirror.get('Handle', 'y'), undefined);
    assert.match(first.presence.checks()[0]?.detail ?? '', /was deleted from the datastore/);
    await start('host-a').claim();
    assert.notEqual(mirror.get('Node', 'host-a'), undefined);
  }));

test('a write that is planned when the node is deleted is not committed after it', () =>
  withCluster(async ({ start, write, mirror, race }) => {
    const first = start('host-a');
    await first.claim();
    race.beforeCommit = () => write((draft) => draft.remove('Node', 'host-a'), signal);
    await assert.rejects(first.write('x'), { code: 'node/deleted' });
    assert.equal(mirror.get('Handle', 'x'), undefined);
  }));
