import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { checkout } from '../lab/built.ts';
import { makeStandIns } from '../lab/image.ts';
import { uplinkAddresses } from '../lab/machine.ts';
import { startNameServer } from '../lab/name-server.ts';
import { startLab, type NetworkLab } from '../lab/network-lab.ts';
import { Page } from '../lab/page.ts';
import { ReachTable, target, type Target } from '../lab/reach.ts';
import { words } from '../lab/words.ts';

const resources = '/calico/resources/v3/projectcalico.org/';
const file = 'docs/policies/db-only-from-app.yaml';

/** What docs/policy.md says, command by command, on Docker's and Compose's real labels. */
describe('docs/policy.md', { timeout: 600_000 }, () => {
  let lab: NetworkLab;
  const page = new Page('docs/policy.md');
  const follow = (section: string) =>
    page.run(section, (line) =>
      lab.host.run(['sh', '-c', `cd ${checkout} && ${line}`], {
        timeoutMs: 120_000,
        env: lab.environment,
      }),
    );
  before(async () => {
    lab = await startLab(
      { engine: '28.5', backend: 'nft', datastore: 'etcd' },
      // A denied probe ends at once.
      { CALICO_IPTABLES_FILTER_DENY_ACTION: 'Reject' },
    );
    await makeStandIns(lab.host, ['nginx:1.28-alpine', 'postgres:17-alpine'], [80, 5432]);
  });
  after(async () => lab?.[Symbol.asyncDispose]());

  const reaches = async (from: string, to: string): Promise<boolean> => {
    const ask = words`docker exec ${from} timeout 1 wget -qO- http://${to}/`;
    return (await lab.host.exec(ask)).stdout.trim() === 'hello';
  };
  const isPublished = async (): Promise<boolean> => {
    const ask = `exec 3<>/dev/tcp/${uplinkAddresses.host}/15432; printf "GET / HTTP/1.0\\r\\n\\r\\n" >&3; cat <&3`;
    const outside = words`ip netns exec router timeout 1 bash -c ${ask}`;
    return (await lab.host.exec(outside)).stdout.trim().endsWith('hello');
  };
  const clients = ['shop-app-1', 'shop-report-1'];
  const reach = (client: string) => lab.eventually(() => reaches(client, 'db:5432'));

  test('the page shows the files that it applies', () => {
    const text = readFileSync(`${checkout}/docs/policy.md`, 'utf8');
    const others = ['protect-hosts', 'namespaces', 'blocklist', 'api-by-name'].map(
      (name) => `docs/policies/${name}.yaml`,
    );
    for (const one of [file, ...others]) {
      assert.ok(text.includes(readFileSync(`${checkout}/${one}`, 'utf8')), one);
    }
  });

  test('a policy by labels of Compose decides alone who connects to a service, until it is deleted', async () => {
    const section = 'Example: a database that only the application reaches';
    await follow(section);
    for (const client of clients) assert.ok(await reach(client), client);
    assert.ok(await lab.eventually(isPublished));
    await follow(section);
    assert.ok(await lab.eventually(async () => !(await reaches('shop-report-1', 'db:5432'))));
    assert.ok(await reaches('shop-app-1', 'db:5432'));
    assert.equal(await reaches('shop-app-1', 'db:80'), false, 'another port');
    assert.equal(await isPublished(), false, 'the published port');
    assert.ok(await reaches('shop-db-1', 'report:80'), 'outbound traffic is not affected');
    assert.ok(await reaches('shop-report-1', 'app:80'), 'nor are other containers');
    assert.ok((await lab.dropped('shop-db-1')) > 0, 'the drops are counted');
    assert.equal((await lab.calicoResult('status')).status, 0);
    await lab.docker('restart', '-t', '0', 'shop-db-1', 'shop-report-1');
    assert.ok(await reach('shop-app-1'), 'after a restart');
    assert.equal(await reaches('shop-report-1', 'db:5432'), false, 'after a restart');
    await follow(section);
    assert.ok(await reach('shop-report-1'));
    assert.ok(await lab.eventually(isPublished));
  });

  test('the commands do the same without YAML', async () => {
    await follow('Commands');
    await follow('From Profile to policy');
    await follow('From Profile to policy');
    await follow('Templates');
    assert.ok(await reach('shop-report-1'), 'everything is removed again');
  });

  /** What each recipe denies, by the container that connects. */
  const own = (...names: readonly string[]) =>
    names.flatMap((name) => [`${name}:80`, `${name}:5432`]);
  const shop = own('app', 'report', 'db');
  const beyond = ['lan', 'metadata', 'internet', 'dns'];
  const world = [...shop, ...own('tool'), ...beyond];
  const without = (all: readonly string[], ...some: readonly string[]) =>
    all.filter((name) => !some.includes(name));
  const recipes: Readonly<Record<string, Readonly<Record<string, readonly string[]>>>> = {
    'One service reaches the database': {
      app: ['db:80'],
      report: own('db'),
      tool: own('db'),
      outside: ['db published'],
    },
    'A project for itself': { tool: shop, outside: ['db published'] },
    'A project for itself, with one public port': { tool: without(shop, 'db:5432') },
    'A published port for some clients': { app: own('db'), report: own('db'), tool: own('db') },
    'One service less': { report: own('db') },
    'Not this container': { tool: shop },
    "Containers with a label of one's own": {
      app: own('db'),
      report: own('db'),
      tool: ['db:80'],
      outside: ['db published'],
    },
    'Ping for the monitoring': { tool: shop, outside: ['db published'] },
    'Not the LAN': {
      app: ['lan', 'metadata'],
      report: ['lan', 'metadata'],
      db: ['lan', 'metadata'],
    },
    'The internet only': { report: without(world, 'internet', 'dns') },
    'No network at all': {
      report: world,
      app: own('report'),
      db: own('report'),
      tool: own('report'),
    },
    'One API only': { app: without(world, 'internet', 'dns') },
    'An API by its name': { app: world },
    'A DMZ': {
      app: without(world, 'db:5432'),
      report: ['app:5432', ...own('db')],
      db: ['app:5432'],
      tool: ['app:5432', ...own('db')],
      outside: ['db published'],
    },
    'Not the metadata service of the cloud': {
      app: ['metadata'],
      report: ['metadata'],
      db: ['metadata'],
      tool: ['metadata'],
    },
    'A blocklist': {
      app: ['internet', 'dns'],
      report: ['internet', 'dns'],
      db: ['internet', 'dns'],
      tool: ['internet', 'dns'],
    },
    'Only on one network': {
      app: ['db:80'],
      report: own('db'),
      tool: own('db'),
      outside: ['db published'],
    },
  };

  test('each recipe denies what it says, and nothing else', async () => {
    const { host } = lab;
    const [lan, metadata] = ['192.168.7.1', '169.254.169.254'];
    for (const address of [lan, metadata]) {
      await host.run(words`ip -n router address add ${`${address}/32`} dev lo`);
    }
    const router = host.path('/run/netns/router');
    const talk = [`${checkout}/node_modules/.bin/node`, `${checkout}/test/lab/talk.ts`];
    host.spawn(words`ip netns exec router ${talk} serve 80`);
    await using dns = await startNameServer(
      ['nsenter', `--net=${router}`],
      uplinkAddresses.far,
      {},
    );
    assert.ok(dns);
    await follow('Cookbook');
    await using table = new ReachTable();
    const outer = [
      target('tcp', 'lan', lan, 80),
      target('tcp', 'metadata', metadata, 80),
      target('tcp', 'internet', uplinkAddresses.far, 80),
      target('udp', 'dns', uplinkAddresses.far, 53),
    ];
    const servers = new Map<string, readonly Target[]>();
    for (const name of ['app', 'report', 'db', 'tool']) {
      const container = name === 'tool' ? name : `shop-${name}-1`;
      const key = await lab.docker('inspect', '-f', '{{.NetworkSettings.SandboxKey}}', container);
      const address = await lab.address(container, 'shop_shop');
      servers.set(
        name,
        [80, 5432].map((port) => target('tcp', `${name}:${port}`, address, port)),
      );
      table.add(name, host.path(key.trim().replace(/^\/var\/run/, '/run')), () => [
        ...[...servers].flatMap(([other, some]) => (other === name ? [] : some)),
        ...outer,
      ]);
    }
    const published = target('tcp', 'db published', uplinkAddresses.host, 15_432);
    table.add('outside', router, () => [published]);
    await table.onlyDenied({});
    for (const [title, denied] of Object.entries(recipes)) {
      await follow(title);
      await assert.doesNotReject(table.onlyDenied(denied), title);
      const pings = () => host.exec(words`docker exec tool ping -c 1 -W 1 ${'db'}`);
      if (title.startsWith('Ping')) assert.equal((await pings()).status, 0, title);
      // Faster than the command; network sets and tiers without policies have no effect.
      lab.etcd?.etcdctl('del', '--prefix', `${resources}globalnetworkpolicies/`);
    }
    await table.onlyDenied({});
    for (const kind of ['globalnetworksets', 'tiers/deny', 'tiers/no-lan']) {
      lab.etcd?.etcdctl('del', '--prefix', `${resources}${kind}`);
    }
    await lab.docker('rm', '-f', 'tool');
  });

  test('a HostEndpoint protects the host and published ports, and bridge containers survive it', async () => {
    const { host } = lab;
    await lab.docker('run', '-d', '--name', 'plain', '-p', '15433:80', 'nginx:1.28-alpine');
    await lab.docker('run', '-d', '--name', 'beside', '--net', 'host', 'nginx:1.28-alpine');
    const outside = async (port: number): Promise<boolean> => {
      const ask = `exec 3<>/dev/tcp/${uplinkAddresses.host}/${port}; printf "GET / HTTP/1.0\\r\\n\\r\\n" >&3; cat <&3`;
      const { stdout } = await host.exec(words`ip netns exec router timeout 1 bash -c ${ask}`);
      return stdout.trim().endsWith('hello');
    };
    const pings = async () =>
      (await host.exec(words`docker exec plain ping -c 1 -W 1 ${uplinkAddresses.far}`)).status ===
      0;
    const isOpen = async () =>
      (await outside(15432)) && (await outside(15433)) && (await outside(80)) && (await pings());
    assert.ok(await lab.eventually(isOpen), 'everything is open before');
    await follow('Host endpoints');
    assert.ok(await lab.eventually(async () => !(await outside(15432))));
    assert.equal(await outside(15433), false, "Docker's published port");
    assert.equal(await outside(80), false, 'a container on the network of the host is the host');
    assert.ok(await pings(), 'bridge containers reach the outside');
    assert.ok(await reaches('shop-report-1', 'app:80'), 'and Calico networks work');
    assert.equal((await lab.calicoResult('status')).status, 0);
    await follow('Host endpoints');
    assert.ok(await lab.eventually(isOpen), 'everything is open again');
    await lab.docker('rm', '-f', 'plain', 'beside');
  });

  test('a policy of a namespace admits containers of the namespaces with a label', async () => {
    await follow('Namespaces');
    const start = async (name: string, network: string) =>
      lab.docker('run', '-d', '--name', name, '--net', network, 'nginx:1.28-alpine');
    await Promise.all([
      start('web', 'front'),
      start('cart', 'front'),
      start('prometheus', 'metrics'),
    ]);
    const target = `${await lab.address('web', 'front')}:80`;
    assert.ok(await lab.eventually(() => reaches('cart', target)));
    assert.equal(await reaches('prometheus', target), false);
    await follow('Namespaces');
    assert.ok(await lab.eventually(() => reaches('prometheus', target)));
    assert.ok(await reaches('cart', target));
    assert.equal(await reaches('shop-app-1', target), false, 'of another namespace');
    assert.equal((await lab.calicoResult('status')).status, 0);
    await lab.docker('rm', '-f', 'web', 'cart', 'prometheus');
    await follow('Namespaces');
  });

  test('what only Kubernetes gives a meaning is refused, and denies what it selects if it is stored all the same', async () => {
    const policy = (spec: object) => ({
      apiVersion: 'projectcalico.org/v3',
      kind: 'GlobalNetworkPolicy',
      metadata: { name: 'of-kubernetes' },
      spec: { selector: "com.docker.compose.service == 'db'", ...spec },
    });
    const apply = (resource: object) =>
      lab.host.exec(['calico-cnm', 'apply', '-f', '-'], {
        input: JSON.stringify(resource),
        env: lab.environment,
      });
    const source = { serviceAccounts: { names: ['x'] } };
    const refused = await apply(policy({ ingress: [{ action: 'Allow', source }] }));
    assert.equal(refused.status, 1);
    assert.match(
      refused.stderr,
      /spec\.ingress\.0\.source\.serviceAccounts: is not enforced: it needs Kubernetes/,
    );
    const { status, stderr } = await apply(policy({ serviceAccountSelector: "role == 'x'" }));
    assert.equal(status, 1);
    assert.match(stderr, /spec\.serviceAccountSelector: is not enforced: it needs Kubernetes/);
    const key = `${resources}globalnetworkpolicies/of-kubernetes`;
    const uid = '5e8d0a1c-7c0b-4a3f-9a34-3d0f1f5a9a11';
    for (const [rule, why] of [
      [{ action: 'Allow', source }, /serviceAccounts and services are not supported/],
      [{ action: 'Redirect' }, /it is invalid: .*action/],
    ] as const) {
      const stored = policy({ types: ['Ingress'], ingress: [rule] });
      const metadata = { ...stored.metadata, uid };
      lab.etcd?.etcdctl('put', key, JSON.stringify({ ...stored, metadata }));
      const isClosed = async () => !(await reaches('shop-app-1', 'db:5432'));
      assert.ok(await lab.eventually(isClosed), JSON.stringify(rule));
      const report = await lab.calicoResult('status');
      assert.equal(report.status, 1);
      assert.match(report.stdout, /GlobalNetworkPolicy of-kubernetes: /);
      assert.match(report.stdout, why);
      assert.ok(
        await reaches('shop-app-1', 'report:80'),
        'what it does not select is not affected',
      );
      lab.etcd?.etcdctl('del', key);
      assert.ok(await reach('shop-app-1'));
    }
    page.assertAllWasRun();
  });
});
