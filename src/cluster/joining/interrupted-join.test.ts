import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, test } from 'node:test';
import { readClusterFile, writeClusterFile } from '../cluster-file.ts';
import { markGone } from '../records.ts';
import { send } from './connection.ts';
import { joinCluster } from './join.ts';
import {
  nodeProof,
  rejected,
  startJoiningCluster,
  type JoiningCluster,
  type Steps,
} from './joining-cluster.fixture.ts';
import { emptyResponse, paths as requests } from './protocol.ts';

const signal = AbortSignal.timeout(600_000);

describe('joining and leaving, interrupted', () => {
  let cluster: JoiningCluster;
  let steps: Steps;
  before(async () => {
    cluster = await startJoiningCluster();
    ({ steps } = cluster);
  });
  after(() => cluster[Symbol.asyncDispose]());
  beforeEach(() => {
    steps.calls = [];
    steps.failing = undefined;
  });

  test('interrupted at each of its steps it goes on when it is run again', async () => {
    const names = ['prepare', 'admit', 'move', 'moved'];
    for (const step of names) {
      const { node, paths, deps } = cluster.newHost();
      const wanted = await cluster.options(node);
      steps.failing = ['admit', 'moved'].includes(step) ? `${step} ${node}` : step;
      await assert.rejects(joinCluster(wanted, deps));
      assert.notEqual(readClusterFile(paths)?.state, 'joined');
      steps.failing = undefined;
      assert.deepEqual(await joinCluster(wanted, deps), { kind: 'joined' }, step);
      assert.equal(readClusterFile(paths)?.state, 'joined');
    }
  });

  test('a member whose daemon restarts is waited for', async () => {
    for (const step of ['prepare', 'move'] as const) {
      const { node, deps } = cluster.newHost({ [step]: () => cluster.restart() });
      assert.deepEqual(await joinCluster(await cluster.options(node), deps), { kind: 'joined' });
    }
  });

  test('a host whose data has moved is not compared with the cluster again', async () => {
    const first = cluster.newHost();
    const wanted = await cluster.options(first.node);
    steps.failing = `moved ${first.node}`;
    await assert.rejects(joinCluster(wanted, first.deps));
    steps.failing = undefined;
    steps.calls = [];
    const island = () => Promise.reject(new Error('compared'));
    const again = { ...first.deps, island, isMoved: async () => true };
    assert.deepEqual(await joinCluster(wanted, again), { kind: 'joined' });
    assert.deepEqual(steps.calls, ['move', `moved ${first.node}`]);
  });

  test('a host whose data has moved finishes that join before it joins another cluster', async () => {
    const { node, paths, deps } = cluster.newHost({ isMoved: async () => true });
    const wanted = await cluster.options(node);
    steps.failing = `moved ${node}`;
    await assert.rejects(joinCluster(wanted, deps));
    const file = readClusterFile(paths);
    assert.ok(file?.join !== undefined);
    // As if that had been another cluster.
    const join = { ...file.join, fingerprint: 'x'.repeat(43) };
    writeClusterFile(paths, { ...file, join });
    steps.calls = [];
    await assert.rejects(
      joinCluster(wanted, deps),
      rejected('cluster/interrupted', /cluster join was interrupted on this host; finish it first/),
    );
    assert.deepEqual(steps.calls, []);
  });

  test('a host that was interrupted while it joined again loses the rights of the move', async () => {
    const { node, deps } = cluster.newHost();
    await joinCluster(await cluster.options(node), deps);
    await markGone(cluster.store, node, signal);
    steps.failing = `moved ${node}`;
    await assert.rejects(joinCluster(await cluster.options(node), deps));
    steps.failing = undefined;
    steps.calls = [];
    const again = await joinCluster(await cluster.options(node), deps);
    assert.deepEqual(again, { kind: 'already joined' });
    assert.deepEqual(steps.calls, [`moved ${node}`]);
  });

  test('a host that was interrupted while it left announces it again', async () => {
    const { node, paths } = await cluster.joinedHost();
    const announce = async () =>
      send(cluster.address, {
        authority: cluster.authority.certificate,
        proof: await nodeProof(paths),
        path: requests.leave,
        body: { node },
        response: emptyResponse,
      });
    await announce();
    await markGone(cluster.store, node, signal);
    await announce();
    assert.deepEqual(steps.calls, [`leave ${node}`, `leave ${node}`]);
  });
});
