import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { updateHost } from '../../src/cluster/records.ts';
import { MemberCluster, type MemberHost } from '../lab/etcd-members.ts';
import { unlessLong } from '../lab/long.ts';
import { enterNewNamespace, type OwnNamespace } from '../lab/namespace.ts';

const { signal } = new AbortController();

/** Members of the etcd that calico-cnm makes: real ones, each with the loops of its host's daemon. */
describe('members of the etcd of a cluster', () => {
  let namespace: OwnNamespace;
  let cluster: MemberCluster;

  before(() => {
    namespace = enterNewNamespace();
    cluster = new MemberCluster();
  });
  after(async () => {
    try {
      await cluster?.[Symbol.asyncDispose]();
    } finally {
      namespace?.[Symbol.dispose]();
    }
  });

  const leave = async ({ node }: MemberHost) => {
    await using store = await cluster.open();
    await updateHost(store.datastore, node, (host) => host && { ...host, wanted: 'gone' }, signal);
  };

  test('of two hosts one is a member; with the third all are, and two voters are a matter of moments', async (t) => {
    await cluster.init();
    await cluster.join();
    await sleep(500);
    await cluster.voters(1);
    const window = cluster.twoVoters();
    await cluster.join();
    await cluster.voters(1, 2, 3);
    const ms = await window();
    t.diagnostic(`two voters for ${Math.round(ms)} ms`);
    // Everything was prepared before: between the two promotions nothing but the third member is added.
    const steps = cluster.lines.flatMap(
      (line) => /member step \{"step":"([a-z-]+)"/.exec(line)?.[1] ?? [],
    );
    const after = steps.slice(steps.indexOf('promote') + 1);
    const changes = after.filter((step) => step !== 'announce');
    assert.deepEqual(changes.slice(0, 2), ['add', 'promote'], cluster.lines.join('\n'));
  });

  test(
    'a member whose address changes is a member with the new one',
    { skip: unlessLong() },
    async () => {
      const moved = cluster.host(2);
      moved.moveTo(6);
      const end = Date.now() + 60_000;
      const isHealthy = async () => {
        const admin = await cluster.admin();
        const own = (await admin.members()).find(({ name }) => name === moved.node);
        const isNew = own?.clientUrls.join() === moved.url;
        return isNew && typeof (await admin.status(own)) !== 'string';
      };
      while (!(await isHealthy())) {
        assert.ok(Date.now() < end, `${cluster.lines.join('\n')}\n${moved.units.log.slice(-1500)}`);
        await sleep(200);
      }
      await cluster.voters(1, 2, 3);
    },
  );

  test('of three members one leaves, and one remains', async () => {
    await leave(cluster.host(3));
    await cluster.voters(1);
  });
});
