import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { kindName, startLab, type LabKind, type NetworkLab } from '../lab/network-lab.ts';
import { words } from '../lab/words.ts';

const kinds: readonly LabKind[] = [
  { engine: '20.10', backend: 'nft', datastore: 'etcd' },
  { engine: '28.5', backend: 'legacy', datastore: 'sqlite' },
];

for (const kind of kinds)
  describe(kindName(kind), { timeout: 600_000 }, () => networkSetSuite(kind));

/** Sets of networks that rules select; and policy that is stored for Felix, and decides nothing here. */
function networkSetSuite(kind: LabKind): void {
  let lab: NetworkLab;
  before(async () => {
    lab = await startLab(kind);
    await lab.tour();
  });
  after(async () => lab[Symbol.asyncDispose]());

  const apply = (resource: object) =>
    lab.host.run(['calico-cnm', 'apply', '-f', '-'], {
      input: JSON.stringify({ apiVersion: 'projectcalico.org/v3', ...resource }),
      env: lab.environment,
    });
  const set = (name: string, nets: readonly string[], metadata: object = {}) =>
    apply({
      kind: 'GlobalNetworkSet',
      metadata: { name, labels: { set: 'bad' }, ...metadata },
      spec: { nets },
    });
  const reaches = () => lab.reaches('inside', 'app');
  const passes = async () => assert.ok(await lab.eventually(reaches), 'it reaches');
  const denied = () => lab.dropped('app', /inbound: Profile web, rule 1/);
  const isDenied = async () => {
    const before = await denied();
    assert.ok(await lab.eventually(async () => !(await reaches())), 'it is denied');
    assert.ok((await denied()) > before, 'by the rule');
  };

  test('a rule denies whose address is in a set that its selector matches, as the set is now', async () => {
    const address = await lab.address('inside', 'web');
    const rule = ['deny', 'from', 'selector', "set == 'bad'"];
    await lab.calico('profile', 'web', 'rule', 'add', '--at', '1', 'inbound', ...rule);
    await passes();
    await set('one', [address]);
    await isDenied();
    await set('one', ['192.0.2.1', '2001:db8::/32']);
    await passes();
    // A network that holds another one, with bits of the host, and in two sets.
    await set('one', [`${address}/24`, address, `${address}/32`]);
    await apply({
      kind: 'NetworkSet',
      metadata: { name: 'two', namespace: 'shop', labels: { set: 'bad' } },
      spec: { nets: [address] },
    });
    await isDenied();
    await lab.calico('delete', 'globalnetworkset', 'one');
    await isDenied();
    assert.match(await lab.calico('get', 'netset'), /^shop +two +[0-9.]+/im);
    await set('all', ['0.0.0.0/0', '::/0']);
    await lab.calico('delete', 'networkset', 'shop/two');
    await isDenied();
    await set('all', ['0.0.0.0/0'], { labels: { set: 'good' } });
    await passes();
    await lab.calico('delete', 'globalnetworkset', 'all');
    await lab.calico(...words`profile web rule remove inbound --at 1`);
  });

  test('a set of what is no network is refused', async () => {
    await assert.rejects(
      set('wrong', ['10.0.0.0/33']),
      /GlobalNetworkSet wrong: spec\.nets: "10\.0\.0\.0\/33" is neither a network nor an address/,
    );
  });

  test('policy that is not enforced is named by status, apply and the log', async () => {
    const policy = {
      kind: 'GlobalNetworkPolicy',
      apiVersion: 'projectcalico.org/v3',
      metadata: { name: 'default.deny-all', uid: '5e8d0a1c-7c0b-4a3f-9a34-3d0f1f5a9a11' },
      spec: { tier: 'default', order: 100, selector: 'all()', types: ['Ingress'] },
    };
    const status = () => lab.calicoResult('status');
    const before = await status();
    assert.equal(before.status, 0, before.stdout);
    const { etcd } = lab;
    if (etcd === undefined) {
      assert.match(await apply(policy), /^note: GlobalNetworkPolicy is stored but not enforced: /m);
    } else {
      const key = '/calico/resources/v3/projectcalico.org/globalnetworkpolicies/default.deny-all';
      etcd.etcdctl('put', key, JSON.stringify(policy));
    }
    assert.match(
      await apply({ kind: 'BGPConfiguration', metadata: { name: 'default' }, spec: {} }),
      /^note: BGPConfiguration is stored but has no effect on this host$/m,
    );
    const named = /GlobalNetworkPolicy.* 1 stored \((default\.)?deny-all\), not enforced/;
    const says = async () => named.test((await status()).stdout);
    assert.ok(await lab.eventually(says), (await status()).stdout);
    assert.notEqual((await status()).status, 0);
    assert.match(
      lab.host.calicoLog(),
      /warn policy not enforced.* kind=GlobalNetworkPolicy name=default\.deny-all/,
    );
    const [, row = ''] = (await lab.calico('get', 'gnp')).split('\n');
    await lab.calico('delete', 'gnp', row.split(' ')[0] ?? '');
    const isWell = async () => (await status()).status === 0;
    assert.ok(await lab.eventually(isWell), (await status()).stdout);
  });
}
