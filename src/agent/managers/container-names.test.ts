import assert from 'node:assert/strict';
import { mock, test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import packet from 'dns-packet';
import type { EntryChange } from '../../cache/mirror.ts';
import type { Stored } from '../../cache/view.ts';
import type { AnswerDns } from '../../dataplane/container-dns.ts';
import { parseNet } from '../../ip/cidr.ts';
import { briefEndpoint, type BriefEndpoint } from '../../model/briefs.ts';
import type { DockerNetwork } from '../../model/kinds/docker-network.ts';
import type { WorkloadEndpoint } from '../../model/kinds/workload-endpoint.ts';
import { ContainerNames } from './container-names.ts';

interface Where {
  readonly node?: string;
  readonly network?: string;
  readonly sandbox?: string;
  readonly aliases?: string;
  readonly address?: string;
}

function endpoint(name: string, where: Where = {}): WorkloadEndpoint {
  const { node = 'here', network = 'web', sandbox, aliases, address = '10.0.0.1' } = where;
  return {
    kind: 'WorkloadEndpoint',
    apiVersion: 'projectcalico.org/v3',
    metadata: {
      name,
      namespace: 'libnetwork',
      labels: { 'com.docker.network.name': network, 'com.docker.container.name': name },
      annotations: {
        ...(sandbox === undefined ? {} : { 'docker.projectcalico.org/sandbox': sandbox }),
        ...(aliases === undefined ? {} : { 'docker.projectcalico.org/aliases': aliases }),
      },
    },
    spec: {
      orchestrator: 'libnetwork',
      node,
      endpoint: name,
      ipNetworks: [parseNet(address)],
      interfaceName: `cali${name}`,
    },
  };
}

/** A host whose containers' queries are answered without a kernel. */
class Lab {
  readonly served = new Map<string, AnswerDns>();
  /** Namespaces that do not exist yet. */
  readonly missing = new Set<string>();
  readonly broken = new Set<string>();
  readonly replaced = new Set<string>();
  readonly ended: string[] = [];
  readonly floods = new Map<string, () => void>();
  opened = 0;
  readonly domains = {
    hasDomains: false,
    respond: (): Promise<Buffer | undefined> | undefined => undefined,
    onFirst: (): void => undefined,
  };
  readonly #briefs = new Map<string, Stored<BriefEndpoint>>();
  readonly names: ContainerNames;

  constructor(resolvesNames = true) {
    const silent = () => undefined;
    this.names = new ContainerNames({
      node: 'here',
      resolvesNames,
      log: { error: silent, warn: silent, info: silent, debug: silent },
      domains: this.domains,
      mirror: {
        cachedInBrief: () => this.#briefs,
      },
      kernel: {
        openContainerDns: (sandbox, answer, onFlood) => {
          this.floods.set(sandbox, onFlood);
          this.opened++;
          if (this.broken.has(sandbox)) throw new Error('EOPNOTSUPP');
          if (this.missing.has(sandbox)) return undefined;
          this.served.set(sandbox, answer);
          this.replaced.delete(sandbox);
          return {
            isCurrent: () => !this.replaced.has(sandbox),
            endRedirect: async () => void this.ended.push(sandbox),
            close: () => void this.served.delete(sandbox),
          };
        },
      },
    });
  }

  network(id: string, name: string | undefined): void {
    const value: DockerNetwork | undefined =
      name === undefined
        ? undefined
        : {
            id,
            node: 'here',
            name,
            ipam: 'calico',
            internal: false,
            ipv4: true,
            ipv6: false,
            subnets: [],
            options: {},
          };
    this.#tell({
      kind: 'DockerNetwork',
      id: `here/${id}`,
      before: undefined,
      now: value && { id, value, modRevision: 1n },
    });
  }

  local(name: string, now: WorkloadEndpoint | undefined): void {
    const stored = now && { id: name, value: now, modRevision: 1n };
    this.#tell({ kind: 'WorkloadEndpoint', id: name, before: undefined, now: stored });
  }

  remote(name: string, now: WorkloadEndpoint | undefined): void {
    const brief = now && briefEndpoint(now);
    if (brief === undefined) this.#briefs.delete(name);
    else this.#briefs.set(name, { id: name, value: brief, modRevision: 1n });
    this.names.onBrief({ kind: 'WorkloadEndpoint', id: name, brief });
    this.names.apply('routes');
  }

  linkIsUp(name: string, { hasCarrier = true, isGone = false } = {}): void {
    this.names.onEvent({
      kind: 'link',
      isGone,
      link: {
        index: 1,
        name,
        mac: 'ee:ee:ee:ee:ee:ee',
        mtuBytes: 1500,
        isUp: true,
        hasCarrier,
        leadsOut: true,
      },
    });
  }

  ask(sandbox: string, name: string): readonly unknown[] | undefined {
    const answer = this.served.get(sandbox) ?? assert.fail(`${sandbox} is not served`);
    const query = packet.encode({ type: 'query', id: 1, questions: [{ name, type: 'A' }] });
    const response = answer(query, 'udp');
    if (response instanceof Promise) return ['later'];
    return (
      response &&
      packet.decode(response).answers?.map((one) => (one.type === 'A' ? one.data : one.type))
    );
  }

  #tell(change: EntryChange<'WorkloadEndpoint' | 'DockerNetwork'>): void {
    this.names.onChange(change);
    this.names.apply('routes');
  }
}

test('queries of a container are received from when another host is on one of its networks, until it is gone', () => {
  const lab = new Lab();
  lab.network('n1', 'web');
  lab.local('app', endpoint('app', { sandbox: 'ns1' }));
  assert.equal(lab.served.size, 0, 'on a single host, Docker alone responds');
  lab.remote('far', endpoint('far', { node: 'there', network: 'other' }));
  lab.names.onBrief({ kind: 'Block4', id: '10-0-0-0-26', brief: undefined });
  assert.equal(lab.served.size, 0);
  lab.remote('api', endpoint('api', { node: 'there', address: '10.0.0.9' }));
  assert.deepEqual(lab.ask('ns1', 'api'), ['10.0.0.9']);
  assert.equal(lab.ask('ns1', 'app'), undefined);
  assert.equal(lab.ask('ns1', 'far'), undefined);
  lab.remote('api', undefined);
  assert.equal(lab.ask('ns1', 'api'), undefined);
  lab.local('late', endpoint('late', { sandbox: 'ns2' }));
  assert.ok(!lab.served.has('ns2'));
  lab.local('app', undefined);
  assert.equal(lab.served.size, 0);
});

test('a network that is created later has the names that were there before', () => {
  const lab = new Lab();
  lab.remote('api', endpoint('api', { node: 'there', aliases: 'shop', address: '10.0.0.9' }));
  lab.network('n1', 'web');
  lab.local('app', endpoint('app', { sandbox: 'ns1' }));
  assert.deepEqual(lab.ask('ns1', 'shop'), ['10.0.0.9']);
  lab.network('n1', undefined);
  assert.equal(lab.ask('ns1', 'shop'), undefined);
});

test('a container that joins another network resolves its names from then on, and no longer when it leaves', () => {
  const lab = new Lab();
  lab.network('n1', 'web');
  lab.network('n2', 'other');
  lab.remote('api', endpoint('api', { node: 'there', address: '10.0.0.9' }));
  lab.remote('far', endpoint('far', { node: 'there', network: 'other', address: '10.0.0.8' }));
  lab.local('e1', endpoint('e1', { sandbox: 'ns1' }));
  assert.equal(lab.ask('ns1', 'far'), undefined);
  lab.local('e2', endpoint('e2', { sandbox: 'ns1', network: 'other' }));
  assert.deepEqual(lab.ask('ns1', 'far'), ['10.0.0.8']);
  lab.local('e2', undefined);
  assert.equal(lab.ask('ns1', 'far'), undefined);
  assert.deepEqual(lab.ask('ns1', 'api'), ['10.0.0.9']);
});

test('where the namespace appears after Join, it is served as soon as its interface is up', () => {
  const lab = new Lab();
  lab.missing.add('ns1');
  lab.network('n1', 'web');
  lab.remote('api', endpoint('api', { node: 'there' }));
  lab.local('app', endpoint('app', { sandbox: 'ns1' }));
  assert.equal(lab.served.size, 0);
  assert.deepEqual(lab.names.checks(), []);
  lab.missing.delete('ns1');
  lab.linkIsUp('caliother');
  lab.linkIsUp('caliapp', { hasCarrier: false });
  lab.linkIsUp('caliapp', { isGone: true });
  assert.equal(lab.served.size, 0);
  lab.linkIsUp('caliapp');
  assert.ok(lab.served.has('ns1'));
  const { opened } = lab;
  lab.linkIsUp('caliapp');
  assert.equal(lab.opened, opened, 'it is served already');
  lab.replaced.add('ns1');
  lab.linkIsUp('caliapp');
  assert.equal(lab.opened, opened + 1, 'another namespace at the same path');
});

test('a container that cannot be served is reported, does not stop others, and is not tried again at once', () => {
  const lab = new Lab();
  lab.broken.add('ns1');
  lab.network('n1', 'web');
  lab.remote('api', endpoint('api', { node: 'there' }));
  lab.local('app', endpoint('app', { sandbox: 'ns1' }));
  lab.local('db', endpoint('db', { sandbox: 'ns2' }));
  assert.ok(lab.served.has('ns2'));
  const [check] = lab.names.checks();
  assert.match(
    check?.detail ?? '',
    /container endpoint app cannot resolve names of other hosts: .*EOPNOTSUPP/,
  );
  const { opened } = lab;
  lab.names.poll();
  assert.equal(lab.opened, opened);
  lab.broken.clear();
  lab.names.resync();
  lab.names.poll();
  assert.ok(lab.served.has('ns1'));
  assert.deepEqual(lab.names.checks(), []);
});

test('containers that cannot be served, or send too many queries, are left to Docker for 30 seconds', () => {
  mock.timers.enable({ apis: ['Date'], now: 1_000_000 });
  try {
    const lab = new Lab();
    lab.network('n1', 'web');
    lab.remote('api', endpoint('api', { node: 'there' }));
    lab.local('app', endpoint('app', { sandbox: 'ns1' }));
    lab.broken.add('ns2');
    lab.local('db', endpoint('db', { sandbox: 'ns2' }));
    lab.floods.get('ns1')?.();
    assert.ok(!lab.served.has('ns1'));
    const [check] = lab.names.checks();
    assert.match(check?.detail ?? '', /^container endpoint db and 1 more cannot resolve/);
    lab.broken.clear();
    mock.timers.setTime(1_029_999);
    assert.equal(lab.names.poll(), false);
    assert.equal(lab.served.size, 0);
    mock.timers.setTime(1_030_000);
    lab.names.poll();
    assert.deepEqual([...lab.served.keys()].toSorted(), ['ns1', 'ns2']);
    assert.deepEqual(lab.names.checks(), []);
    const { opened } = lab;
    lab.names.poll();
    assert.equal(lab.opened, opened);
    lab.floods.get('ns1')?.();
    assert.match(
      lab.names.checks()[0]?.detail ?? '',
      /^container endpoint app cannot resolve .* DNS queries in a second$/,
    );
    lab.local('app', undefined);
    assert.deepEqual(lab.names.checks(), [], 'it is gone');
  } finally {
    mock.timers.reset();
  }
});

test('many containers are served in steps, with other work between them', async () => {
  const lab = new Lab();
  lab.network('n1', 'web');
  const count = 40;
  for (let n = 0; n < count; n++) lab.local(`c${n}`, endpoint(`c${n}`, { sandbox: `ns${n}` }));
  lab.remote('api', endpoint('api', { node: 'there' }));
  assert.ok(lab.served.size > 0 && lab.served.size <= count / 2, `${lab.served.size}`);
  for (let turn = 0; turn < count && lab.served.size < count; turn++) await nextTurn();
  assert.equal(lab.served.size, count);
  assert.equal(lab.opened, count, 'each once');
});

test('a network that is renamed has the names of its new name only', () => {
  const lab = new Lab();
  lab.network('n1', 'web');
  lab.remote('api', endpoint('api', { node: 'there', address: '10.0.0.9' }));
  lab.remote('far', endpoint('far', { node: 'there', network: 'shop', address: '10.0.0.8' }));
  lab.local('app', endpoint('app', { sandbox: 'ns1' }));
  assert.deepEqual(lab.ask('ns1', 'api'), ['10.0.0.9']);
  lab.network('n1', 'shop');
  assert.equal(lab.ask('ns1', 'api'), undefined);
  lab.local('app', endpoint('app', { sandbox: 'ns1', network: 'shop' }));
  assert.deepEqual(lab.ask('ns1', 'far'), ['10.0.0.8']);
});

test('a query that cannot be decoded is left to Docker', () => {
  const lab = new Lab();
  lab.network('n1', 'web');
  lab.remote('api', endpoint('api', { node: 'there' }));
  lab.local('app', endpoint('app', { sandbox: 'ns1' }));
  for (const query of [Buffer.alloc(0), Buffer.from('no query'), Buffer.alloc(600, 0xc0)]) {
    assert.equal(lab.served.get('ns1')?.(query, 'udp'), undefined);
  }
});

test('when the daemon stops, queries reach Docker again, and those that were received are still answered', () => {
  const lab = new Lab();
  lab.network('n1', 'web');
  lab.remote('api', endpoint('api', { node: 'there', address: '10.0.0.9' }));
  lab.local('app', endpoint('app', { sandbox: 'ns1' }));
  lab.names.stop();
  assert.deepEqual(lab.ended, ['ns1']);
  assert.deepEqual(lab.ask('ns1', 'api'), ['10.0.0.9']);
});

test('without the setting, no container is served', () => {
  const lab = new Lab(false);
  lab.network('n1', 'web');
  lab.remote('api', endpoint('api', { node: 'there' }));
  lab.local('app', endpoint('app', { sandbox: 'ns1' }));
  assert.equal(lab.opened, 0);
});

test('queries of all containers are received from when a network set has domain names, which are answered later', () => {
  const lab = new Lab();
  lab.network('n1', 'web');
  lab.local('app', endpoint('app', { sandbox: 'ns1' }));
  assert.equal(lab.served.size, 0);
  lab.domains.hasDomains = true;
  lab.domains.onFirst();
  lab.names.apply('routes');
  assert.deepEqual([...lab.served.keys()], ['ns1']);
  assert.equal(lab.ask('ns1', 'api.example.com'), undefined, 'of no network set');
  lab.domains.respond = () => Promise.resolve(undefined);
  assert.deepEqual(lab.ask('ns1', 'api.example.com'), ['later']);
});
