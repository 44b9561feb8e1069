import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { checkout } from '../lab/built.ts';
import { uplinkAddresses } from '../lab/machine.ts';
import { startDnsClient } from '../lab/dns-client.ts';
import { startNameServer, type NameServer } from '../lab/name-server.ts';
import { startLab, type NetworkLab } from '../lab/network-lab.ts';
import { ReachTable, target, type Target } from '../lab/reach.ts';
import { words } from '../lab/words.ts';

/** Project and service of the containers, all on one network whose Profile allows everything. */
const containers = new Map([
  ['app', ['shop', 'app']],
  ['db', ['shop', 'db']],
  ['web', ['shop', 'web']],
  ['other', ['office', 'other']],
] as const);

const lanAddress = '192.168.7.1';
const metadataAddress = '169.254.169.254';
const publishedPort = 15_080;
const serve = 'for port in 80 8080; do httpd -p $port -h /www; done; tail -f /dev/null';

/** Targets beyond the router. */
const beyond: readonly Target[] = [
  target('tcp', 'lan', lanAddress, 80),
  target('udp', 'lan dns', lanAddress, 53),
  target('tcp', 'metadata', metadataAddress, 80),
  target('tcp', 'metadata dns', metadataAddress, 53),
  target('tcp', 'internet', uplinkAddresses.far, 80),
  target('udp', 'internet dns', uplinkAddresses.far, 53),
];
const published = target('tcp', 'web published', uplinkAddresses.host, publishedPort);

/** Names of one network set, with addresses by the name server that the daemon trusts. */
const names = ['a.api.test', 'b.api.test', 'c.api.test', 'd.api.test', 'e.api.test'] as const;
const addressOf = (name: string) => `198.51.100.${name.charCodeAt(0)}`;
/** A name with an IPv6 address, and one of another network set. */
const sixName = { name: 'six.api.test', address: '2001:db8:200::6' } as const;
const shortName = { name: 'short.test', address: '198.51.100.200' } as const;
const trustedNames = Object.fromEntries([
  ...names.map((name) => [name, addressOf(name)] as const),
  ...[sixName, shortName].map(({ name, address }) => [name, address] as const),
]);
/** How long an address with a short TTL is kept: a minute, and half a minute for the connection. */
const keptMs = 90_000;
/** What the name server of the containers says. */
const wrongAddress = '198.51.100.66';

/** The templates of `calico-cnm policy`, by packets: each denies what it says and nothing else, until it is removed. */
describe('calico-cnm policy template', { timeout: 600_000 }, () => {
  let lab: NetworkLab;
  const table = new ReachTable();
  const servers = new Map<string, readonly Target[]>();
  const nameServers: NameServer[] = [];
  /** Paths of network namespaces. */
  const sandboxes = new Map<string, string>();

  before(async () => {
    lab = await startLab(
      { engine: '28.5', backend: 'nft', datastore: 'sqlite' },
      // A denied probe ends at once.
      {
        CALICO_IPTABLES_FILTER_DENY_ACTION: 'Reject',
        CALICO_DNS_TRUSTED_SERVERS: uplinkAddresses.far,
      },
    );
    const { host } = lab;
    const talk = [`${checkout}/node_modules/.bin/node`, `${checkout}/test/lab/talk.ts`];
    for (const address of [lanAddress, metadataAddress]) {
      await host.run(words`ip -n router address add ${`${address}/32`} dev lo`);
    }
    host.spawn(words`ip netns exec router ${talk} serve 80`);
    host.spawn(words`ip netns exec router ${talk} listen tcp ${metadataAddress} 53`);
    const router = ['nsenter', `--net=${host.path('/run/netns/router')}`];
    await host.run(words`ip -n router address add 198.51.100.0/24 dev lo`);
    await host.run(words`ip -n router -6 route add local 2001:db8:200::/64 dev lo`);
    await host.run(words`ip -n router -6 route add fd00::/8 via ${uplinkAddresses.hostV6}`);
    nameServers.push(
      await startNameServer(router, uplinkAddresses.far, trustedNames),
      await startNameServer(router, lanAddress, {
        [names[0]]: wrongAddress,
        'other.test': wrongAddress,
      }),
    );
    // Docker forwards the queries of containers to this one.
    await host.run(['sh', '-c', `echo nameserver ${lanAddress} >/etc/resolv.conf`]);
    await lab.network('net', '--ipv6');
    const started = [...containers].map(async ([name, [project, service]]) => {
      const port = name === 'web' ? ['-p', `${publishedPort}:80`] : [];
      const labels = words`--label com.docker.compose.project=${project} --label com.docker.compose.service=${service}`;
      await lab.docker(
        ...words`run -d --name ${name} --net net ${labels} ${port} calico-test sh -c ${serve}`,
      );
      const key = await lab.docker('inspect', '-f', '{{.NetworkSettings.SandboxKey}}', name);
      const path = key.trim().replace(/^\/var\/run/, '/run');
      sandboxes.set(name, lab.host.path(path));
      addClient(name, path);
      const address = await lab.address(name, 'net');
      servers.set(
        name,
        [80, 8080].map((number) => target('tcp', `${name}:${number}`, address, number)),
      );
    });
    await Promise.all(started);
    addClient('outside', '/run/netns/router');
  });
  after(async () => {
    for (const one of [table, ...nameServers]) await one[Symbol.asyncDispose]();
    await lab?.[Symbol.asyncDispose]();
  });

  const addClient = (name: string, path: string) =>
    table.add(name, lab.host.path(path), () =>
      name === 'outside'
        ? [published]
        : [...[...servers].flatMap(([other, some]) => (other === name ? [] : some)), ...beyond],
    );
  const onlyDenied = (denied: Readonly<Record<string, readonly string[]>>) =>
    table.onlyDenied(denied);
  const apply = (...args: readonly string[]) => lab.calico('policy', 'template', 'apply', ...args);
  const remove = (...names: readonly string[]) => lab.calico('policy', 'rm', ...names);
  const local = (...names: readonly string[]) =>
    names.flatMap((name) => [`${name}:80`, `${name}:8080`]);
  const all = [...local('app', 'db', 'web', 'other'), ...beyond.map(({ name }) => name)];

  /** Applies a network set with domain names, and allows one container nothing but name servers and the set. */
  const allowOnly = async (name: string, spec: object) => {
    const apiVersion = 'projectcalico.org/v3';
    const metadata = { name, labels: { set: name } };
    const set = JSON.stringify({ apiVersion, kind: 'GlobalNetworkSet', metadata, spec });
    await lab.host.run(words`calico-cnm apply -f -`, { input: set, env: lab.environment });
    await apply('dns-only', 'selector=service=app');
    await lab.calico(
      ...words`policy allow --from service=app --to ${`set=${name}`} --direction outbound`,
    );
    await onlyDenied({ app: all.filter((one) => !one.endsWith(' dns')) });
  };
  const removeOnly = (name: string) =>
    remove('dns-only', `allow-service-app-to-set-${name}-outbound`);
  const startAppDns = () => startDnsClient(sandboxes.get('app') ?? assert.fail('app runs'));
  const reaches = (address: string) => table.reaches('app', target('tcp', address, address, 80));
  let shortAt = 0;

  test('a short TTL: the address is allowed for the first packet', async () => {
    const { name, address } = shortName;
    await allowOnly('short', { allowedEgressDomains: [name] });
    await using dns = startAppDns();
    assert.equal(await reaches(address), false);
    assert.deepEqual((await dns.ask(name, 'A', 'udp')).data, [address]);
    assert.ok(await reaches(address));
    shortAt = performance.now();
    await removeOnly('short');
  });

  test('default-deny: only what another policy allows', async () => {
    await onlyDenied({});
    await apply('default-deny', 'selector=service=db');
    const others = { app: local('db'), web: local('db'), other: local('db') };
    await onlyDenied({ ...others, db: all });
    await lab.calico(...words`policy allow --from service=app --to service=db --port 80`);
    await onlyDenied({ ...others, app: ['db:8080'], db: all });
    await remove('default-deny', 'allow-service-app-to-service-db-tcp-80');
  });

  test('same-project: only containers of the project', async () => {
    await apply('same-project', 'project=shop');
    await onlyDenied({ other: local('app', 'db', 'web'), outside: ['web published'] });
    await remove('same-project-shop');
  });

  test('internet-only: name servers and the internet', async () => {
    // Containers are denied whatever the LAN is.
    const args = ['internet-only', 'selector=service=app', 'lan=192.168.0.0/16,169.254.0.0/16'];
    await apply(...args);
    const denied = [...local('db', 'web', 'other'), 'lan', 'metadata'];
    await onlyDenied({ app: denied });
    await apply(...args, `dns=${uplinkAddresses.far}`);
    await onlyDenied({ app: [...denied, 'lan dns', 'metadata dns'] });
    await remove('internet-only');
  });

  test('no-lan: everything but the LAN, and other policies still count', async () => {
    await apply('no-lan', 'selector=project=shop');
    await lab.calico(...words`policy isolate service=other`);
    const denied = ['lan', 'metadata', ...local('other')];
    await onlyDenied({ app: denied, db: denied, web: denied });
    await remove('no-lan', 'isolate-service-other');
  });

  test('dmz: the world to the proxies, these to their backends', async () => {
    await apply(
      'dmz',
      'selector=service=web',
      'backend=service=app',
      'ports=80',
      'backend-ports=8080',
    );
    await onlyDenied({
      app: ['web:8080'],
      db: [...local('app'), 'web:8080'],
      other: [...local('app'), 'web:8080'],
      web: all.filter((name) => name !== 'app:8080'),
    });
    await remove('dmz');
  });

  test('block-metadata: not the metadata service, but a name server at its address', async () => {
    await apply('block-metadata');
    const denied = ['metadata'];
    await onlyDenied({ app: denied, db: denied, web: denied, other: denied });
    await remove('block-metadata');
  });

  test('dns-only: name servers', async () => {
    await apply('dns-only', 'selector=service=app', `dns=${uplinkAddresses.far},169.254.0.0/16`);
    await onlyDenied({
      app: all.filter((name) => !['metadata dns', 'internet dns'].includes(name)),
    });
    await remove('dns-only');
  });

  test('a network set has the addresses of its domain names, once a container has resolved them', async () => {
    const ownAddress = '198.51.100.77';
    await allowOnly('api', { nets: [ownAddress], allowedEgressDomains: ['*.api.test'] });
    await using dns = startAppDns();
    const ask = async (name: string, type = 'A') => (await dns.ask(name, type, 'udp')).data;
    for (const name of names) assert.equal(await reaches(addressOf(name)), false, name);
    for (const name of names) {
      assert.deepEqual(await ask(name), [addressOf(name)], 'by the trusted server');
      assert.ok(await reaches(addressOf(name)), `${name}: the first packet`);
    }
    assert.deepEqual(await ask('other.test'), [wrongAddress], 'by the server of the container');
    assert.equal(await reaches(wrongAddress), false, 'which allows nothing');
    assert.deepEqual(await ask(sixName.name), [], 'it has no IPv4 address');
    assert.equal(await reaches(sixName.address), false);
    assert.deepEqual(await ask(sixName.name, 'AAAA'), [sixName.address]);
    assert.ok(await reaches(sixName.address), 'IPv6: the first packet');
    const check = (await lab.status()).checks.find(({ name }) => name.startsWith('domain names'));
    assert.equal(check?.ok, true);
    assert.match(
      check.detail,
      /^2 sets, [67] names resolved, [67] addresses; addresses from other name servers/,
    );

    // Names have no effect in other rules than outbound Allow ones; networks of the set have.
    const [first] = names;
    assert.ok(await reaches(ownAddress));
    const deny = words`policy deny --from service=app --to set=api --direction outbound`;
    assert.match(
      await lab.calico(...deny),
      /GlobalNetworkSet api have no effect in outbound rule 1/,
    );
    assert.ok(await lab.eventually(async () => !(await reaches(ownAddress))));
    await ask(first);
    assert.ok(await reaches(addressOf(first)));
    await remove('deny.service-app-to-set-api-outbound');

    // A container may remember addresses while the daemon restarts.
    await Promise.all([ask(first), lab.eventually(() => reaches(ownAddress))]);
    await ask(sixName.name, 'AAAA');
    await lab.host.stopCalico();
    await lab.host.startCalico(lab.environment);
    const isInSync = async () =>
      (await lab.status()).checks.find(({ name }) => name === 'dataplane')?.ok === true;
    assert.ok(await lab.eventually(isInSync));
    for (const address of [addressOf(first), sixName.address]) {
      assert.ok(await reaches(address), `${address} after a restart`);
    }

    await lab.calico('delete', 'globalnetworkset', 'api');
    assert.ok(await lab.eventually(async () => !(await reaches(addressOf(first)))));
    await removeOnly('api');
  });

  test('the address of a short TTL is denied when it has expired, until a container resolves the name again', async () => {
    const { name, address } = shortName;
    await allowOnly('short', { allowedEgressDomains: [name] });
    const isKept = await reaches(address);
    const sinceMs = performance.now() - shortAt;
    if (sinceMs < keptMs - 5000) assert.ok(isKept, `after ${sinceMs} ms`);
    const patienceMs = Math.max(0, keptMs - sinceMs) + 60_000;
    assert.ok(await lab.eventually(async () => !(await reaches(address)), patienceMs));
    await using dns = startAppDns();
    assert.deepEqual((await dns.ask(name, 'A', 'udp')).data, [address]);
    assert.ok(await reaches(address));
    await lab.calico('delete', 'globalnetworkset', 'short');
    await removeOnly('short');
  });

  test('nothing is left of any template', async () => {
    await onlyDenied({});
    for (const kind of ['gnp', 'globalnetworkset']) {
      assert.match(await lab.calico('get', kind), /^NAME [^\n]*$/, kind);
    }
    assert.doesNotMatch(await lab.calico('get', 'tier'), /deny|no-lan/);
  });
});
