import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import {
  startDnsClient,
  type DnsClient,
  type DnsResponse,
  type DnsTransport,
} from '../lab/dns-client.ts';
import { startNameServer, type NameServer } from '../lab/name-server.ts';
import { startLab, type LabKind, type NetworkLab } from '../lab/network-lab.ts';
import { words } from '../lab/words.ts';

/** A container on another host: what that host's daemon writes to the datastore. */
interface Remote {
  readonly network: string;
  readonly addresses: readonly string[];
  readonly aliases?: readonly string[];
}

const noError = 0;
const noSuchName = 3;

const kinds: readonly LabKind[] = [
  { engine: '20.10', backend: 'legacy', datastore: 'etcd' },
  { engine: '28.5', backend: 'nft', datastore: 'sqlite' },
];

const remoteHost = 'host-3';

function remoteName(name: string): string {
  return `${remoteHost.replaceAll('-', '--')}-libnetwork-libnetwork-${name.replaceAll('-', '--')}`;
}

function remoteEndpoint(name: string, { network, addresses, aliases }: Remote) {
  return {
    apiVersion: 'projectcalico.org/v3',
    kind: 'WorkloadEndpoint',
    metadata: {
      name: remoteName(name),
      namespace: 'libnetwork',
      labels: { 'com.docker.network.name': network, 'com.docker.container.name': name },
      annotations:
        aliases === undefined ? {} : { 'docker.projectcalico.org/aliases': aliases.join(',') },
    },
    spec: {
      orchestrator: 'libnetwork',
      workload: name,
      containerID: 'c'.repeat(64),
      node: remoteHost,
      endpoint: name,
      ipNetworks: addresses.map((one) => `${one}/${one.includes(':') ? 128 : 32}`),
      interfaceName: 'cali0123456789a',
      profiles: [],
    },
  };
}

for (const kind of kinds) {
  describe(
    `names of containers on other hosts, Docker ${kind.engine}`,
    { timeout: 600_000 },
    () => {
      let lab: NetworkLab;
      let server: NameServer;
      const clients = new Map<string, DnsClient>();
      before(async () => {
        lab = await startLab(kind);
        server = await startNameServer(lab.host.machine.enterNetwork, '203.0.113.2', {
          'outside.test': '198.51.100.7',
          'printer.corp.test': '198.51.100.9',
        });
        await lab.host.stopDocker();
        await lab.host.run(['sh', '-ec', `echo 'nameserver 203.0.113.2' >/etc/resolv.conf`]);
        await lab.host.startDocker();
        await lab.network('web');
        await lab.network('other');
        await lab.network('closed', '--internal');
        await lab.client('early', '--net', 'web');
        await remote('api', {
          network: 'web',
          addresses: ['10.200.0.1'],
          aliases: ['shop', 'pay'],
        });
        await lab.client('app', '--net', 'web', '--network-alias', 'shop');
        await lab.client('asker', '--net', 'web');
        await lab.client('stranger', '--net', 'other');
      });
      after(async () => {
        for (const client of clients.values()) await client[Symbol.asyncDispose]();
        await server[Symbol.asyncDispose]();
        await lab[Symbol.asyncDispose]();
      });

      /** Writes containers on other hosts to the datastore. */
      async function remotes(what: Readonly<Record<string, Remote>>): Promise<void> {
        const documents = Object.entries(what).map(([name, one]) => remoteEndpoint(name, one));
        await lab.host.run(['calico-cnm', 'apply', '-f', '-'], {
          env: lab.environment,
          input: documents.map((one) => JSON.stringify(one)).join('\n---\n'),
        });
      }

      const remote = (name: string, what: Remote) => remotes({ [name]: what });

      async function removeRemote(name: string): Promise<void> {
        await lab.calico('delete', 'workloadendpoint', remoteName(name), '-n', 'libnetwork');
      }

      /** The response that a process in the container gets. */
      async function ask(
        container: string,
        name: string,
        type = 'A',
        transport: DnsTransport = 'udp',
      ): Promise<DnsResponse> {
        const client = clients.get(container) ?? (await startClient(container));
        clients.set(container, client);
        return client.ask(name, type, transport);
      }

      async function startClient(container: string): Promise<DnsClient> {
        const key = await lab.docker('inspect', '-f', '{{.NetworkSettings.SandboxKey}}', container);
        return startDnsClient(lab.host.path(key.trim().replace(/^\/var\/run/, '/run')));
      }

      async function addresses(...question: Parameters<typeof ask>): Promise<readonly string[]> {
        return (await ask(...question)).data.toSorted();
      }

      /** Whether it waits for no server that does not respond: not even once, because the machine may be busy. */
      const isAtOnce = (...question: Parameters<typeof ask>) =>
        lab.eventually(async () => (await ask(...question)).ms < 2000, 20_000);

      const becomes = (expected: readonly string[], ...question: Parameters<typeof ask>) =>
        lab.eventually(async () => String(await addresses(...question)) === String(expected));

      test('a container resolves name, alias and name.network of a container on another host', async () => {
        assert.ok(await becomes(['10.200.0.1'], 'asker', 'api'));
        for (const name of ['api', 'API', 'pay', 'api.web', 'pay.web']) {
          const { code, data, ttl } = await ask('asker', name);
          assert.deepEqual({ name, code, data }, { name, code: noError, data: ['10.200.0.1'] });
          assert.ok(ttl <= 1, `TTL ${ttl}`);
        }
        const shown = await lab.docker('exec', 'asker', 'nslookup', 'api');
        assert.match(shown, /10\.200\.0\.1/);
      });

      test('so does a container that was started before the other host had one', async () => {
        assert.ok(await becomes(['10.200.0.1'], 'early', 'api'));
      });

      test('an alias means the containers of all hosts, in rotation', async () => {
        const own = await lab.address('app', 'web');
        const all = [own, '10.200.0.1'].toSorted();
        assert.ok(await becomes(all, 'asker', 'shop'), 'both hosts');
        const first = new Set<string | undefined>();
        const both = await lab.eventually(async () => {
          first.add((await ask('asker', 'shop')).data[0]);
          return first.size === 2;
        });
        assert.ok(both, `always ${[...first].join()} first`);
      });

      test("of two containers of one name, this host's is meant", async () => {
        await remote('app', { network: 'web', addresses: ['10.200.0.2'] });
        await remote('seen', { network: 'web', addresses: ['10.200.0.3'] });
        assert.ok(await becomes(['10.200.0.3'], 'asker', 'seen'));
        assert.deepEqual(await addresses('asker', 'app'), [await lab.address('app', 'web')]);
        await removeRemote('app');
      });

      test('names of a network resolve only in containers on it, after a later connect as well', async () => {
        await remote('far', { network: 'other', addresses: ['10.200.0.9'] });
        assert.ok(await becomes(['10.200.0.9'], 'stranger', 'far'));
        for (const name of ['api', 'api.web', 'shop']) {
          const { code, data } = await ask('stranger', name);
          assert.deepEqual({ name, code, data }, { name, code: noSuchName, data: [] });
          assert.ok(await isAtOnce('stranger', name), name);
        }
        await lab.docker('network', 'connect', '--alias', 'visitor', 'web', 'stranger');
        assert.ok(await becomes(['10.200.0.1'], 'stranger', 'api'));
        assert.deepEqual(await addresses('stranger', 'far'), ['10.200.0.9']);
        const visitor = await lab.address('stranger', 'web');
        assert.deepEqual(await addresses('asker', 'visitor'), [visitor]);
        await lab.docker('network', 'disconnect', 'web', 'stranger');
        assert.ok(await becomes([], 'stranger', 'api'));
      });

      test('a name without IPv6 address has an empty answer for AAAA, and an address has a name', async () => {
        const { code, data } = await ask('asker', 'api', 'AAAA');
        assert.deepEqual({ code, data }, { code: noError, data: [] });
        assert.equal((await ask('asker', 'api', 'MX')).code, noError);
        await remote('six', { network: 'web', addresses: ['10.200.0.6', 'fd00:200::6'] });
        assert.ok(await becomes(['fd00:200::6'], 'asker', 'six', 'AAAA'));
        assert.deepEqual(await addresses('asker', 'six'), ['10.200.0.6']);
        assert.deepEqual(await addresses('asker', '1.0.200.10.in-addr.arpa', 'PTR'), ['api.web']);
        assert.equal((await ask('stranger', '1.0.200.10.in-addr.arpa', 'PTR')).code, noSuchName);
      });

      test('TCP and EDNS work; a large answer is truncated for others', async () => {
        const many = new Map<string, Remote>();
        for (let n = 1; n <= 60; n++) {
          const addresses = [`10.201.0.${n}`];
          many.set(`many-${n}`, { network: 'web', addresses, aliases: ['many'] });
        }
        await remotes(Object.fromEntries(many));
        const complete = async () => (await ask('asker', 'many', 'A', 'tcp')).data.length === 60;
        assert.ok(await lab.eventually(complete));
        const plain = await ask('asker', 'many');
        assert.ok(plain.isTruncated === true && plain.data.length < 60);
        const extended = await ask('asker', 'many', 'A', 'edns');
        assert.deepEqual(
          [extended.isTruncated, extended.data.length, extended.hasExtension],
          [false, 60, true],
        );
      });

      test('names that Docker knows, and names outside, are as before', async () => {
        const app = await lab.address('app', 'web');
        for (const transport of ['udp', 'tcp'] as const) {
          assert.deepEqual(await addresses('asker', 'app', 'A', transport), [app], transport);
        }
        assert.deepEqual(await addresses('asker', 'outside.test'), ['198.51.100.7']);
        assert.equal((await ask('asker', 'nowhere.test')).code, noSuchName);
        await lab.client('searcher', '--net', 'web', '--dns-search', 'corp.test');
        const shown = await lab.host.exec(words`docker exec searcher ping -c 1 -W 1 -q api`);
        assert.match(shown.stdout, /10\.200\.0\.1/);
        const { stdout } = await lab.host.exec([
          'docker',
          'exec',
          'searcher',
          'nslookup',
          'printer',
        ]);
        assert.match(stdout, /198\.51\.100\.9/);
        await lab.docker('rename', 'app', 'renamed');
        assert.deepEqual(await addresses('asker', 'renamed'), [app]);
        await lab.docker('rename', 'renamed', 'app');
      });

      test('they resolve on an internal network', async () => {
        await remote('vault', { network: 'closed', addresses: ['10.200.0.7'] });
        await lab.client('keeper', '--net', 'closed');
        assert.ok(await becomes(['10.200.0.7'], 'keeper', 'vault'));
      });

      test('a container resolves them with its first query', async () => {
        const run = words`docker run --rm --net web calico-test nslookup -type=a api`;
        const { stdout } = await lab.host.exec(run);
        assert.match(stdout, /10\.200\.0\.1/);
      });

      test('a name follows its container: another address, another name, none', async () => {
        await remote('api', {
          network: 'web',
          addresses: ['10.200.0.8'],
          aliases: ['shop', 'pay'],
        });
        assert.ok(await becomes(['10.200.0.8'], 'asker', 'api'));
        await removeRemote('api');
        assert.ok(await becomes([], 'asker', 'api'));
        assert.deepEqual(await addresses('asker', 'shop'), [await lab.address('app', 'web')]);
        assert.equal((await ask('asker', 'pay')).code, noSuchName);
        await remote('api', {
          network: 'web',
          addresses: ['10.200.0.1'],
          aliases: ['shop', 'pay'],
        });
        assert.ok(await becomes(['10.200.0.1'], 'asker', 'api'));
      });

      test('while the daemon is down, Docker responds; then the names are back', async () => {
        await lab.host.killCalico();
        const app = await ask('asker', 'app');
        assert.deepEqual(app.data, [await lab.address('app', 'web')]);
        assert.ok(await isAtOnce('asker', 'app'));
        assert.equal((await ask('asker', 'api')).code, noSuchName);
        assert.equal((await ask('asker', 'app', 'A', 'tcp')).code, noError);
        await lab.host.startCalico(lab.environment);
        assert.ok(await becomes(['10.200.0.1'], 'asker', 'api'));
        assert.equal((await ask('asker', 'shop')).data.length, 2);
      });

      test('CALICO_NAMES_ACROSS_HOSTS=false leaves all queries to Docker', async () => {
        await lab.host.stopCalico();
        await lab.host.startCalico({ ...lab.environment, CALICO_NAMES_ACROSS_HOSTS: 'false' });
        assert.equal((await ask('asker', 'api')).code, noSuchName);
        assert.equal((await ask('asker', 'app')).code, noError);
      });
    },
  );
}
