import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { parse } from 'yaml';
import { z } from 'zod';
import { makeStandIns } from '../lab/image.ts';
import { checkout } from '../lab/built.ts';
import { uplinkAddresses } from '../lab/machine.ts';
import { startLab, type LabKind, type NetworkLab } from '../lab/network-lab.ts';
import { Page } from '../lab/page.ts';
import { words } from '../lab/words.ts';

interface Tool {
  readonly version: '1.29' | 'v2';
  readonly command: string;
  readonly kind: LabKind;
}

const tools: readonly Tool[] = [
  {
    version: '1.29',
    command: 'docker-compose',
    kind: { engine: '20.10', backend: 'nft', datastore: 'sqlite', furnished: true },
  },
  {
    version: 'v2',
    command: 'docker compose',
    kind: { engine: '28.5', backend: 'legacy', datastore: 'sqlite' },
  },
];

/** The example files, as they are; their images cannot be had here, so that others stand in for them. */
const files = ['shop', 'office', 'team'].map((name) => `docs/compose/${name}.yaml`);
/** The ports that those images serve. */
const ports = [53, 80, 3000, 5432, 6379];

for (const tool of tools)
  describe(`Compose ${tool.version}`, { timeout: 600_000 }, () => composeSuite(tool));

/** What docs/compose.md says, command by command, and who reaches whom then. */
function composeSuite({ version, command, kind }: Tool): void {
  let lab: NetworkLab;
  /** A name of a container as this version makes it. */
  const named = (text: string) =>
    version === '1.29' ? text.replaceAll(/\b([a-z]+)-([a-z]+)-(\d)\b/g, '$1_$2_$3') : text;
  const page = new Page('docs/compose.md', (text) =>
    named(text).replaceAll('docker compose', command),
  );
  const shell = (line: string) =>
    lab.host.run(['sh', '-c', `cd ${checkout} && ${line}`], { timeoutMs: 120_000 });
  const follow = (section: string) => page.run(section, shell);
  before(async () => {
    lab = await startLab(kind);
    await makeStandIns(lab.host, [...new Set(files.flatMap(imagesOf))], ports);
  });
  after(async () => lab[Symbol.asyncDispose]());

  /** Whether a container gets the page at `NAME:PORT` or `ADDRESS:PORT`. */
  const reaches = async (from: string, to: string): Promise<boolean> => {
    const ask = words`docker exec ${named(from)} timeout 1 wget -qO- http://${to}/`;
    return (await lab.host.exec(ask)).stdout.trim() === 'hello';
  };
  /** Whether a client outside gets the page at a port of the host. */
  const isOpen = async (port: number): Promise<boolean> => {
    const ask = `exec 3<>/dev/tcp/${uplinkAddresses.host}/${port}; printf "GET / HTTP/1.0\\r\\n\\r\\n" >&3; cat <&3`;
    const outside = words`ip netns exec router timeout 1 bash -c ${ask}`;
    return (await lab.host.exec(outside)).stdout.trim().endsWith('hello');
  };
  // What a container serves may begin a moment after the container.
  const reached = (from: string, to: string) => lab.eventually(() => reaches(from, to));
  const opened = (port: number) => lab.eventually(() => isOpen(port));
  const address = (container: string, network: string) => lab.address(named(container), network);
  const onlyAfter = (droppedAt: string, probe: () => Promise<boolean>, change: () => unknown) =>
    lab.onlyAfter({ droppedAt: named(droppedAt), probe, change: async () => change() });
  /** Host ports of the teams' apps, by container. */
  const publishedPorts = async (): Promise<ReadonlyMap<string, number>> => {
    const lines = (await lab.calico('ports')).matchAll(/^(\S+) +0\.0\.0\.0:(\d+)->80\/tcp/gm);
    return new Map([...lines].map(([, container = '', port]) => [container, Number(port)]));
  };
  /** That nothing of the projects is left on this host. */
  const assertNothingLeft = async () => {
    assert.equal(await lab.docker('ps', '-aq'), '');
    assert.equal(await lab.docker(...words`network ls -q -f type=custom`), '');
    const { networks, endpoints, pools } = await lab.status();
    assert.deepEqual([...networks, ...endpoints], []);
    assert.equal(pools.length, 2, 'the default ones');
    assert.match(await lab.calico('ipam', 'check'), /^no problems found$/m);
  };

  test('three tiers: labels choose Profiles, and each reaches the next one only', async () => {
    await follow('Three tiers');
    await follow('Three tiers');
    assert.ok(await opened(8080));
    assert.ok(await reached('shop-web-1', 'api:3000'));
    assert.ok(await reached('shop-api-1', 'db:5432'));
    assert.ok(await reached('shop-api-1', 'database:5432'), 'by its alias');
    const database = await address('shop-db-1', 'shop_back');
    const before = await lab.dropped(named('shop-db-1'));
    assert.equal(await reaches('shop-api-1', `${database}:80`), false);
    assert.ok((await lab.dropped(named('shop-db-1'))) > before);
    await onlyAfter(
      'shop-db-1',
      () => reaches('shop-web-1', `${database}:5432`),
      () => follow('Rules by project and service'),
    );
  });

  test('up, up again with changes, and restart keep the policy; down leaves nothing', async () => {
    const containers = () => lab.docker(...words`ps -q --no-trunc`);
    const first = await containers();
    await shell(`${command} -f docs/compose/shop.yaml -p shop up -d`);
    assert.equal(await containers(), first, 'nothing has changed');
    await follow('Recreate, restart, down');
    assert.notEqual(await containers(), first, 'the password has changed');
    assert.ok(await opened(8080));
    assert.ok(await reached('shop-api-1', 'db:5432'));
    const database = await address('shop-db-1', 'shop_back');
    assert.ok(await reached('shop-web-1', `${database}:5432`));
    assert.equal(await reaches('shop-web-1', `${database}:80`), false);
    await follow('Recreate, restart, down');
    await follow('Recreate, restart, down');
    await assertNothingLeft();
  });

  test('fixed addresses of both families, several ranges, options of the network', async () => {
    await follow('Fixed addresses');
    const [dns, git] = [named('office-dns-1'), named('office-git-1')];
    const runner = named('office-runner-1');
    assert.equal(await lab.address(dns, 'office_lan'), '10.120.0.53');
    assert.equal(await lab.address6(dns, 'office_lan'), 'fd00:120::53');
    assert.equal(await lab.address(git, 'office_lan'), '10.120.1.80');
    assert.equal(await lab.address6(git, 'office_lan'), 'fd00:120::80');
    const other = await lab.address(runner, 'office_lan');
    assert.match(other, /^10\.120\.[01]\.(12[89]|1[3-9]\d|2\d\d)$/);
    assert.notEqual(other, '10.120.0.200');
    assert.match(await lab.address6(runner, 'office_lan'), /^fd00:120::1:/);
    for (const dnsAddress of ['dns', '10.120.0.53', '[fd00:120::53]'])
      assert.ok(await reached(runner, `${dnsAddress}:53`), dnsAddress);
    assert.match(await lab.docker(...words`exec ${runner} ip route`), /default via 10\.120\.0\.1 /);
    assert.match(await lab.docker(...words`exec ${runner} ip link show eth0`), /mtu 1400/);
    assert.match(await lab.calico(...words`get wep -n office -o yaml`), /site: office/);
    await onlyAfter(
      git,
      () => isOpen(3000),
      () => follow('Fixed addresses'),
    );
    await follow('Fixed addresses');
    await assertNothingLeft();
  });

  test('projects share an external network, keep an internal one each, and scale', async () => {
    const section = 'Several projects on one network';
    await follow(section);
    const published = await publishedPorts();
    assert.equal(published.size, 5);
    assert.equal(new Set(published.values()).size, 5);
    for (const port of published.values()) {
      assert.ok(port >= 9000 && port <= 9009);
      assert.ok(await opened(port), String(port));
    }
    const redApp = await address('red-app-2', 'company');
    const blueApp = await address('blue-app-1', 'company');
    const redCache = await address('red-cache-1', 'red_store');
    for (const app of ['red-app-1', 'red-app-2', 'red-app-3', 'blue-app-1', 'blue-app-2']) {
      assert.ok(await reached(app, 'cache:6379'), app);
      assert.ok(await reached(app, `${redApp}:80`), app);
      assert.ok(await reached(app, `${blueApp}:80`), app);
    }
    const before = await lab.dropped(named('red-cache-1'));
    assert.equal(await reaches('blue-app-1', `${redCache}:6379`), false);
    assert.ok((await lab.dropped(named('red-cache-1'))) > before);
    assert.ok(await lab.pings(named('red-app-1'), uplinkAddresses.far));
    assert.equal(await lab.pings(named('red-cache-1'), uplinkAddresses.far), false);
    await follow(section);
    assert.ok(await reached('red-app-2', `${blueApp}:80`));
    await onlyAfter(
      'red-app-2',
      () => reaches('blue-app-1', `${redApp}:80`),
      () => follow(section),
    );
    await follow(section);
    const left = await publishedPorts();
    const apps = ['red-app-1', 'blue-app-1', 'blue-app-2'].map(named);
    assert.deepEqual(new Set(left.keys()), new Set(apps));
    for (const port of left.values()) assert.ok(await opened(port), String(port));
    await follow(section);
    await assertNothingLeft();
  });

  test('what this version takes, and what it refuses or drops', async () => {
    const compose = async (project: string, rest: string) => {
      await lab.host.run(['sh', '-c', 'cat >/root/own.yaml'], { input: project });
      return lab.host.exec(['sh', '-c', `${command} -f /root/own.yaml -p own ${rest} 2>&1`]);
    };
    const taken = async (project: string, rest: string) => {
      const { status, stdout } = await compose(project, rest);
      assert.equal(status, 0, stdout);
    };
    const isV2 = version === 'v2';
    const newer = { ofConnection: ['driver_opts: { org.projectcalico.label.role: guest }'] };
    const newest = { ofConnection: [...newer.ofConnection, 'gw_priority: 1'] };
    for (const project of [ownProject(newer), `name: own\n${ownProject({})}`]) {
      const { status, stdout } = await compose(project, 'config');
      assert.equal(status === 0, isV2, stdout);
    }
    const pool = { cidr: '10.121.0.0/16', natOutgoing: true };
    await lab.host.run(words`calico-cnm apply -f -`, {
      input: JSON.stringify({
        apiVersion: 'projectcalico.org/v3',
        kind: 'IPPool',
        metadata: { name: 'apart' },
        spec: pool,
      }),
    });
    const project = isV2 ? newest : {};
    await taken(ownProject(project), 'up -d');
    const [app, client] = [named('own-app-1'), named('own-client-1')];
    const options = await lab.docker(
      ...words`network inspect own_zone -f ${'{{json .IPAM.Options}}'}`,
    );
    assert.equal(options, isV2 ? 'null' : '{"pool":"apart"}');
    assert.equal(isV2 || (await lab.address(app, 'own_zone')).startsWith('10.121.'), true);
    assert.match(await lab.address(client, 'own_part'), /^10\.121\.4\./);
    const { pools } = await lab.status();
    assert.equal(pools.length, 3, 'the subnet lies in a pool that is there');
    await onlyAfter(
      app,
      () => reaches(client, 'app:80'),
      () => lab.calico(...words`profile add late`),
    );
    const endpoints = await lab.calico(...words`get workloadendpoint -o yaml`);
    assert.equal(endpoints.includes('role: guest'), isV2);
    const carrier = gatewayOf(isV2 ? 'own_zone' : 'own_part');
    const nextHop = await lab.docker(...words`inspect -f ${carrier} ${client}`);
    const route = await lab.docker(...words`exec ${client} ip route show default`);
    assert.ok(route.includes(`via ${nextHop} `), route);

    const remade = ownProject({ ...project, mtu: 1300 });
    const changed = await compose(remade, 'up -d');
    assert.equal(changed.status === 0, isV2, changed.stdout);
    if (!isV2) assert.match(changed.stdout, /needs to be recreated/);
    const link = await lab.docker(...words`exec ${app} ip link show eth0`);
    assert.match(link, isV2 ? /mtu 1300/ : /mtu 1500/);
    assert.ok(await reached(client, `${await lab.address(app, 'own_zone')}:80`));
    const names = await lab.docker(...words`inspect -f ${aliasesOf('own_zone')} ${app}`);
    assert.equal(names.includes('"app"'), !isV2, 'docker compose forgets the names of services');

    await taken(isV2 ? remade : ownProject(project), 'run -d app');
    const { endpoints: running } = await lab.status();
    const once = running.find(({ container }) => /^own[-_]app[-_]run/.test(container));
    assert.deepEqual(once?.profiles, ['late', 'own_zone']);

    await taken(isV2 ? remade : ownProject(project), 'down --remove-orphans');
    await lab.calico(...words`profile remove late`);
    await lab.calico(...words`delete ippool apart`);
    await assertNothingLeft();
    const profiles = await lab.calico(...words`profile show`);
    assert.doesNotMatch(profiles, /shop|office|red|blue|company|late|own/);
  });

  test('each command of the page was run', () => page.assertAllWasRun());
}

/** A template that tells the next hop of a container on a network. */
function gatewayOf(network: string): string {
  return `{{(index .NetworkSettings.Networks "${network}").Gateway}}`;
}

/** A template that tells the names of a container on a network. */
function aliasesOf(network: string): string {
  return `{{json (index .NetworkSettings.Networks "${network}").Aliases}}`;
}

/** A server and a client on one network, the client on a second one; the Profile of the server is yet to be made. */
function ownProject(options: {
  readonly ofConnection?: readonly string[];
  readonly mtu?: number;
}): string {
  const { ofConnection = [], mtu = 1500 } = options;
  return `
services:
  app:
    image: nginx:1.28-alpine
    labels: { org.projectcalico.profile: late }
    networks: [zone]
  client:
    image: nginx:1.28-alpine
    networks:
      part:
      zone:
${ofConnection.map((line) => `        ${line}\n`).join('')}
networks:
  zone:
    driver: calico
    driver_opts: { mtu: "${mtu}" }
    ipam:
      driver: calico-ipam
      options: { pool: apart }
  part:
    driver: calico
    ipam:
      driver: calico-ipam
      config:
        - subnet: 10.121.4.0/24
`;
}

function imagesOf(file: string): readonly string[] {
  const schema = z.object({ services: z.record(z.string(), z.object({ image: z.string() })) });
  const { services } = schema.parse(parse(readFileSync(`${checkout}/${file}`, 'utf8')));
  return Object.values(services).map(({ image }) => image);
}
