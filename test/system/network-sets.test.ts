import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import { z } from 'zod';
import { unlessLong } from '../lab/long.ts';
import { kindName, startLab, type LabKind, type NetworkLab } from '../lab/network-lab.ts';
import { words } from '../lab/words.ts';

const kinds: readonly LabKind[] = [
  { engine: '20.10', backend: 'nft', datastore: 'etcd' },
  { engine: '28.5', backend: 'legacy', datastore: 'sqlite' },
];

for (const kind of kinds)
  describe(kindName(kind), { timeout: 600_000 }, () => networkSetSuite(kind));

/** Sets of networks that rules select, namespaces of networks, and which labels of containers policies match. */
function networkSetSuite(kind: LabKind): void {
  let lab: NetworkLab;
  before(async () => {
    lab = await startLab(kind);
    await lab.tour();
  });
  after(async () => lab[Symbol.asyncDispose]());

  const give = (command: 'apply' | 'delete', resources: readonly object[]) =>
    lab.host.run(['calico-cnm', command, '-f', '-'], {
      input: resources
        .map((one) => JSON.stringify({ apiVersion: 'projectcalico.org/v3', ...one }))
        .join('\n---\n'),
      env: lab.environment,
    });
  const apply = (...resources: readonly object[]) => give('apply', resources);
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

  const skipNamespaces = kind.backend === 'legacy' && unlessLong();
  test(
    'a policy of a namespace selects its endpoints alone, and namespaceSelector matches the labels of a namespace',
    {
      skip: skipNamespaces,
    },
    async () => {
      const refused = await lab.refused(
        ...words`network create --driver calico -o namespace=Shop wrong`,
      );
      assert.match(
        refused,
        /network option "namespace=Shop": must be at most 63 lower-case letters/,
      );
      const addresses = new Map<string, string>();
      const start = async (namespace: string) => {
        await lab.network(`net-${namespace}`, '-o', `namespace=${namespace}`);
        const port = 'org.projectcalico.port.web=8080/tcp';
        const at = ['--net', `net-${namespace}`, '--label'] as const;
        const server = `${namespace}-db`;
        await Promise.all([
          lab.server(server, ...at, 'org.projectcalico.label.role=db', '--label', port),
          lab.client(`${namespace}-app`, ...at, 'org.projectcalico.label.role=app'),
        ]);
        addresses.set(server, await lab.address(server, `net-${namespace}`));
      };
      await Promise.all(['shop', 'prod'].map(start));
      const gets = async (from: string, to: string) => {
        const url = `http://${addresses.get(to) ?? to}:8080/`;
        const ask = words`docker exec ${from} timeout 1 wget -qO- ${url}`;
        return (await lab.host.exec(ask)).stdout.trim() === 'hello';
      };
      const opens = async (from: string, to: string) =>
        assert.ok(await lab.eventually(() => gets(from, to)), `${from} reaches ${to}`);
      const isClosed = async (from: string, to: string) => {
        const before = await lab.dropped(to);
        assert.equal(await gets(from, to), false, `${from} does not reach ${to}`);
        assert.ok((await lab.dropped(to)) > before, `${to} drops it`);
      };
      const policy = (namespace: string, source: object) => ({
        kind: 'NetworkPolicy',
        metadata: { name: 'db', namespace },
        spec: {
          selector: "role == 'db'",
          ingress: [{ action: 'Allow', protocol: 'TCP', source, destination: { ports: ['web'] } }],
        },
      });
      const prodWith = (labels: object) => ({
        kind: 'Profile',
        metadata: { name: 'kns.prod' },
        spec: { labelsToApply: { 'pcns.projectcalico.org/name': 'prod', ...labels } },
      });
      const friends = {
        kind: 'NetworkSet',
        metadata: { name: 'friends', namespace: 'prod', labels: { set: 'friends' } },
        spec: { nets: [await lab.address('inside', 'web')] },
      };
      const openShop = {
        kind: 'GlobalNetworkPolicy',
        metadata: { name: 'open-shop' },
        spec: {
          order: 1,
          namespaceSelector: "projectcalico.org/name == 'shop'",
          ingress: [{ action: 'Allow' }],
        },
      };

      await opens('shop-app', 'shop-db');
      await isClosed('prod-app', 'shop-db');
      const ofTeam = { namespaceSelector: "team == 'a'" };
      await apply(policy('shop', ofTeam), policy('prod', { selector: "role == 'app'" }));
      assert.ok(await lab.eventually(async () => !(await gets('shop-app', 'shop-db'))));
      await isClosed('prod-app', 'shop-db');
      await isClosed('shop-app', 'prod-db');
      await opens('prod-app', 'prod-db');
      await apply(prodWith({ 'pcns.team': 'a' }));
      await opens('prod-app', 'shop-db');
      await isClosed('shop-app', 'shop-db');

      await isClosed('inside', 'shop-db');
      await apply(policy('shop', { ...ofTeam, selector: "set == 'friends'" }), friends);
      await opens('inside', 'shop-db');
      await isClosed('prod-app', 'shop-db');
      await apply(prodWith({}));
      assert.ok(await lab.eventually(async () => !(await gets('inside', 'shop-db'))));
      await apply(openShop);
      await opens('inside', 'shop-db');
      await isClosed('inside', 'prod-db');

      const listed = await lab.calico(...words`get workloadendpoint -n shop -o wide`);
      assert.match(
        await lab.calico('status'),
        /^NAMESPACE +CONTAINER .*(\n(libnetwork|prod|shop) .*)*\nshop +shop-db /m,
      );
      assert.match(listed, /^NAMESPACE .*(\nshop .* shop-(db|app) .* net-shop,kns\.shop){2}$/);
      const { status, stderr } = await lab.calicoResult('delete', 'profile', 'kns.shop');
      assert.equal(status, 1);
      assert.match(stderr, /in use by .*network net-shop/);
      assert.ok((await lab.status()).checks.every(({ ok }) => ok));
      await lab.docker('rm', '-f', 'shop-db', 'shop-app', 'prod-db', 'prod-app');
      await lab.docker('network', 'rm', 'net-shop', 'net-prod');
      const left = await lab.calico('get', 'profiles');
      assert.doesNotMatch(left, /kns\.shop/, 'nobody has changed it');
      assert.match(left, /kns\.prod/, 'labels of a user stay');
      const policies = [policy('shop', ofTeam), policy('prod', ofTeam), openShop];
      await give('delete', [...policies, friends, prodWith({})]);
    },
  );

  test('apply names a policy that has no effect yet', async () => {
    assert.match(
      await apply({
        kind: 'StagedGlobalNetworkPolicy',
        metadata: { name: 'later' },
        spec: { selector: 'all()' },
      }),
      /^note: StagedGlobalNetworkPolicy is stored but has no effect on this host$/m,
    );
    assert.equal((await lab.calicoResult('status')).status, 0);
  });

  test(
    'the setting for labels decides which labels of containers policies match, also of running ones',
    {
      skip: kind.backend === 'nft' && unlessLong(),
    },
    async () => {
      const labels = {
        'com.docker.compose.project': 'shop',
        'com.example.team': 'a',
        'com.example.path': '/srv/shop/compose.yaml',
        'com.example.long': 'x'.repeat(64),
        'projectcalico.org/namespace': 'prod',
        'pcns.team': 'a',
      };
      const given = Object.entries(labels).flatMap(([key, value]) => [
        '--label',
        `${key}=${value}`,
      ]);
      await lab.client('labelled', '--net', 'web', ...given);
      const of = async (name: string) => {
        const stored = await lab.calico('get', 'wep', name, '-o', 'json');
        const { metadata } = z
          .object({ metadata: z.object({ labels: z.record(z.string(), z.string()) }) })
          .parse(JSON.parse(stored));
        const ignored = new Set(['projectcalico.org/orchestrator', 'com.docker.network.name']);
        return Object.fromEntries(
          Object.entries(metadata.labels).filter(([key]) => !ignored.has(key)),
        );
      };
      const standard = {
        'com.docker.compose.project': 'shop',
        'com.docker.container.name': 'labelled',
        'projectcalico.org/namespace': 'libnetwork',
      };
      assert.deepEqual(await of('labelled'), standard);
      assert.ok((await lab.status()).checks.every(({ name }) => name !== 'ignored labels'));
      await apply({
        kind: 'GlobalNetworkPolicy',
        metadata: { name: 'team-a' },
        spec: { selector: "com.example.team == 'a'", types: ['Egress'] },
      });
      const reachesApp = () => lab.reaches('labelled', 'app');
      assert.ok(await reachesApp());
      const restart = async (settings: Readonly<Record<string, string>>) => {
        await lab.host.stopCalico();
        await lab.host.startCalico({ ...lab.environment, ...settings });
      };
      const has = (name: string, wanted: object) =>
        lab.eventually(async () => isDeepStrictEqual(await of(name), wanted));

      await restart({ CALICO_LABELS: '*' });
      const all = { ...standard, 'com.example.team': 'a' };
      assert.ok(await has('labelled', all), JSON.stringify(await of('labelled')));
      assert.ok(await lab.eventually(async () => !(await reachesApp())));
      const { checks } = await lab.status();
      assert.ok(
        checks.every(({ ok }) => ok),
        'such labels are no problem of the host',
      );
      assert.match(
        checks.find(({ name }) => name === 'ignored labels')?.detail ?? '',
        /^container labelled: reserved by Calico: "(projectcalico\.org\/namespace|pcns\.team)", "[^"]+"; not legal in Calico: "com\.example\.(long|path)", "com\.example\.(long|path)"/,
      );
      await lab.docker('rename', 'labelled', 'renamed');
      assert.ok(await has('renamed', { ...all, 'com.docker.container.name': 'renamed' }));
      await lab.docker('network', 'connect', 'other', 'renamed');
      const teams = async () => {
        const list = await lab.calico('get', 'wep', '-o', 'yaml');
        return list.match(/com\.example\.team: a/g)?.length;
      };
      assert.ok(await lab.eventually(async () => (await teams()) === 2), 'on each network');
      await lab.docker('network', 'disconnect', 'other', 'renamed');

      await restart({ CALICO_LABELS: 'com.example.t*' });
      const few = { 'com.example.team': 'a', 'projectcalico.org/namespace': 'libnetwork' };
      assert.ok(await has('renamed', few), JSON.stringify(await of('renamed')));
    },
  );
}
