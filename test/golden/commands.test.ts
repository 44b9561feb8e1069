import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { startCommandLine, type CommandLine } from '../../src/cli/command-line.fixture.ts';
import { formatPeers, peerRows } from '../../src/cli/nodes/node-status.ts';
import { withStore } from '../../src/cli/store.ts';
import { lastReportId, liveReportId } from '../../src/model/kinds/node-report.ts';
import { formatStatus } from '../../src/cli/status-text.ts';
import type { Draft } from '../../src/datastore/writer.ts';
import { networkProfile } from '../../src/driver/networks/network-profile.ts';
import { parseAddress } from '../../src/ip/address.ts';
import { hostCidr, parseCidr } from '../../src/ip/cidr.ts';
import { newBlock } from '../../src/ipam/records/block.ts';
import { assignInBlock, putBlock } from '../../src/ipam/records/records.ts';
import type { StatusReport } from '../../src/telemetry/status-report.ts';
import { golden } from './golden.ts';

/** The output of the commands on a host with two networks and three containers. */

const apiVersion = 'projectcalico.org/v3';
const now = new Date('2026-11-24T11:32:11Z');

function stamped(name: string, id: number) {
  return {
    name,
    uid: `00000000-0000-4000-8000-00000000000${id}`,
    creationTimestamp: '2026-11-24T11:32:11Z',
  };
}

interface Container {
  readonly name: string;
  readonly node: string;
  readonly address: string;
  readonly profiles: readonly string[];
  readonly endpoint: string;
}

const containers: readonly Container[] = [
  {
    name: 'app',
    node: 'host-1',
    address: '10.65.56.192',
    profiles: ['web'],
    endpoint: 'e0000000001',
  },
  {
    name: 'cache',
    node: 'host-1',
    address: '10.65.56.193',
    profiles: ['db', 'web'],
    endpoint: 'e0000000002',
  },
  {
    name: 'batch',
    node: 'host-2',
    address: '10.65.56.194',
    profiles: ['x--proj-5fdefault'],
    endpoint: 'e0000000003',
  },
];

function contents(draft: Draft): void {
  const pool = (name: string, cidr: string, blockSize: number, natOutgoing: boolean, id: number) =>
    draft.put('IPPool', name, {
      kind: 'IPPool',
      apiVersion,
      metadata: stamped(name, id),
      spec: {
        cidr: parseCidr(cidr),
        blockSize,
        natOutgoing,
        ipipMode: 'Never',
        vxlanMode: 'Never',
        nodeSelector: 'all()',
        allowedUses: ['Workload', 'Tunnel'],
      },
    });
  pool('default-ipv4-ippool', '10.65.0.0/16', 26, true, 1);
  pool('default-ipv6-ippool', 'fd1c:d0f0:8f0f::/48', 122, false, 2);
  draft.put('IPReservation', 'printers', {
    kind: 'IPReservation',
    apiVersion,
    metadata: stamped('printers', 3),
    spec: { reservedCIDRs: [parseCidr('10.65.0.0/28'), hostCidr(parseAddress('10.65.1.1'))] },
  });
  draft.put('Node', 'host-1', {
    kind: 'Node',
    apiVersion,
    metadata: { ...stamped('host-1', 4), labels: { 'kubernetes.io/hostname': 'host-1' } },
    spec: {},
  });
  draft.put('Tier', 'default', {
    kind: 'Tier',
    apiVersion,
    metadata: stamped('default', 5),
    spec: { order: 1_000_000, defaultAction: 'Deny' },
  });
  draft.put('ClusterInformation', 'default', {
    kind: 'ClusterInformation',
    apiVersion,
    metadata: stamped('default', 6),
    spec: {
      clusterGUID: 'b3c64d1c36a54c7c9ad5b0a6d1c2e3f4',
      clusterType: 'docker',
      datastoreReady: true,
    },
  });
  for (const [index, name] of ['web', 'proj_default'].entries()) {
    const profile = networkProfile(name);
    const metadata = { ...profile.metadata, ...stamped(profile.metadata.name, 7 + index) };
    draft.put('Profile', profile.metadata.name, { ...profile, metadata });
    draft.put('DockerNetwork', `host-1/id-of-${name}`, {
      id: `id-of-${name}`,
      node: 'host-1',
      name,
      ipam: 'calico',
      internal: false,
      ipv4: true,
      ipv6: false,
      subnets: [{ family: 4, cidr: parseCidr('0.0.0.0/0') }],
      options: {},
    });
  }
  draft.put('Profile', 'db', {
    kind: 'Profile',
    apiVersion,
    metadata: stamped('db', 9),
    spec: {
      labelsToApply: { db: '', backend: '', tier: 'data' },
      ingress: [
        { action: 'Deny', source: { nets: [parseCidr('10.1.2.0/24')] } },
        {
          action: 'Allow',
          protocol: 'TCP',
          source: { selector: 'has(web)' },
          destination: { ports: [5432, '8000:8010'] },
        },
        {
          action: 'Allow',
          protocol: 'ICMP',
          icmp: { type: 8 },
          source: { selector: "env == 'test'" },
        },
        { action: 'Allow', source: { selector: 'has(legacy)' } },
        { action: 'Log', notProtocol: 'UDP' },
      ],
      egress: [],
    },
  });
  putBlock(draft, newBlock(parseCidr('10.65.56.192/26'), 'host-1', now));
  putBlock(draft, newBlock(parseCidr('10.65.60.0/26'), 'host-2', now));
  for (const container of containers) addContainer(draft, container);
}

function addContainer(
  draft: Draft,
  { name, node, address: text, profiles, endpoint }: Container,
): void {
  const address = parseAddress(text);
  const id = `${node.replace('-', '--')}-libnetwork-libnetwork-${endpoint}`;
  draft.put('WorkloadEndpoint', `libnetwork/${id}`, {
    kind: 'WorkloadEndpoint',
    apiVersion,
    metadata: {
      name: id,
      namespace: 'libnetwork',
      labels: { 'com.docker.network.name': 'web', 'projectcalico.org/namespace': 'libnetwork' },
      annotations: { 'docker.projectcalico.org/network': 'id-of-web' },
    },
    spec: {
      orchestrator: 'libnetwork',
      workload: name,
      node,
      endpoint,
      containerID: `c-${name}`,
      ipNetworks: [hostCidr(address)],
      profiles: [...profiles],
      interfaceName: `cali${endpoint}`,
      mac: 'ca:00:00:00:00:01',
    },
  });
  take(draft, {
    address: text,
    handle: `docker.${node}.${text.replaceAll('.', '-')}`,
    node,
    endpoint,
  });
}

function take(
  draft: Draft,
  held: {
    readonly address: string;
    readonly handle: string | undefined;
    readonly node: string;
    readonly endpoint: string;
  },
): void {
  const block = draft.get('Block4', '10.65.56.192/26');
  if (block === undefined) throw new Error('there is no such block');
  const { address, handle, node, endpoint } = held;
  assignInBlock(draft, block, {
    address: parseAddress(address),
    holder: {
      ...(handle === undefined ? {} : { handle_id: handle }),
      secondary: { node, pool: '1f2e3d4c', network: 'id-of-web', networkName: 'web', endpoint },
    },
  });
}

let cli: CommandLine;
before(async () => {
  cli = startCommandLine();
  await cli.write(contents);
});
after(() => cli[Symbol.dispose]());

/** Returns each command with its output below it, as in a terminal. */
async function session(...commands: readonly string[]): Promise<string> {
  const parts: string[] = [];
  for (const command of commands) {
    const { status, out, error } = await cli.run(command.split(' '));
    const ending = status === 0 ? '' : `(exit status ${status})\n`;
    parts.push(`# calico-cnm ${command}\n${out}${error}${ending}`);
  }
  return parts.join('\n');
}

const kinds = [
  'ippool',
  'ipreservation',
  'profile',
  'workloadendpoint',
  'node',
  'tier',
  'clusterinformation',
];

test('get of every kind as a table', async () => {
  golden(
    'get-table',
    await session(
      ...kinds.map((kind) => `get ${kind}`),
      'get profiles web proj_default',
      'get wep',
    ),
  );
});

test('get of every kind as YAML', async () => {
  golden('get-yaml', await session(...kinds.map((kind) => `get ${kind} -o yaml`)));
});

test('get as JSON', async () => {
  golden('get-json', await session('get ipreservation -o json', 'get profile web -o json'));
});

test('profile show in its forms', async () => {
  golden(
    'profile-show',
    await session(
      'profile show',
      'profile show db',
      'profile show --detailed',
      'profile db tag show',
      'profile web rule json',
      'container cache profile show',
    ),
  );
});

test('ipam show in its forms', async () => {
  golden(
    'ipam-show',
    await session(
      'ipam show',
      'ipam show --show-blocks',
      'ipam show --show-borrowed',
      'ipam show --ip 10.65.56.192',
      'ipam show --ip 10.65.56.200',
      'ipam show --ip 192.0.2.1',
      'ipam check',
    ),
  );
});

test('ipam check with problems', async () => {
  using broken = startCommandLine();
  await broken.write(contents);
  await broken.write((draft) => {
    take(draft, {
      address: '10.65.56.210',
      handle: 'docker.host-1.10-65-56-210',
      node: 'host-1',
      endpoint: 'gone',
    });
    take(draft, { address: '10.65.56.211', handle: undefined, node: 'host-1', endpoint: 'gone' });
    draft.put('Handle', 'docker.host-1.10-65-56-212', {
      block: { '10.65.56.192/26': 1 },
      deleted: false,
    });
    draft.remove('Handle', 'docker.host-1.10-65-56-192');
    const batch = draft.get(
      'WorkloadEndpoint',
      'libnetwork/host--1-libnetwork-libnetwork-e0000000002',
    );
    if (batch === undefined) throw new Error('there is no such endpoint');
    const put = (address: string) =>
      draft.put(
        'WorkloadEndpoint',
        `libnetwork/host--1-libnetwork-libnetwork-e${address.replaceAll('.', '')}`,
        {
          ...batch,
          spec: {
            ...batch.spec,
            workload: `at-${address}`,
            ipNetworks: [hostCidr(parseAddress(address))],
          },
        },
      );
    put('10.65.56.9');
    put('192.0.2.55');
  });
  const { status, out } = await broken.run(['ipam', 'check']);
  const fixed = await broken.run(['ipam', 'check', '--fix']);
  golden(
    'ipam-check',
    `# calico-cnm ipam check\n${out}(exit status ${status})\n\n# calico-cnm ipam check --fix\n${fixed.out}(exit status ${fixed.status})\n`,
  );
});

test('help of the program and its commands', async () => {
  golden(
    'help',
    await session(
      '--help',
      'profile --help',
      'policy --help',
      'policy allow --help',
      'policy isolate --help',
      'policy template --help',
      'policy template apply --help',
      'container --help',
      'network --help',
      'network create --help',
      'network rm --help',
      'ipam --help',
      'ipam show --help',
      'node --help',
      'node delete --help',
    ),
  );
});

test('the table of the other nodes', async () => {
  using cluster = startCommandLine();
  await cluster.write(contents);
  await cluster.write(otherNodes);
  const rows = await withStore(
    { kind: 'sqlite', file: join(cluster.folder, 'calico.db') },
    ({ look }) => look((view) => peerRows(view, 'host-1', [])),
  );
  const seen = new Map([
    ['host-2', '12 s ago'],
    ['host-3', '4 s ago'],
    ['host-4', '2026-11-24T11:29:58.000Z'],
    ['k8s-1', 'never reported'],
  ]);
  golden('node-status', formatPeers(rows, seen));
});

function otherNodes(draft: Draft): void {
  const addresses = {
    'host-1': '172.16.0.11/24',
    'host-2': '172.16.0.12/24',
    'host-3': '172.16.9.13/24',
    'host-4': '172.16.0.14/24',
    'k8s-1': undefined,
  };
  for (const [name, ipv4Address] of Object.entries(addresses)) {
    const spec = ipv4Address === undefined ? {} : { bgp: { ipv4Address } };
    draft.put('Node', name, { kind: 'Node', apiVersion, metadata: { name }, spec });
  }
  const report = { time: now.toISOString(), uptime: 60, first_update: true };
  for (const name of ['host-2', 'host-3']) draft.put('NodeReport', liveReportId(name), report);
  draft.put('NodeReport', lastReportId('host-4'), report);
}

const healthy: StatusReport = {
  version: '0.1.0',
  node: 'host-1',
  startedAt: '2026-11-24T11:32:11.966Z',
  checks: [
    {
      name: 'plugin sockets',
      ok: true,
      detail: '/run/docker/plugins/calico.sock, /run/docker/plugins/calico-ipam.sock',
    },
    {
      name: 'datastore',
      ok: true,
      detail: '/var/lib/calico/calico.db, in sync since 2026-11-24T11:32:12.026Z',
      remedy:
        'Running containers keep their network and policy. Restore the connection to the datastore.',
    },
    {
      name: 'dataplane',
      ok: true,
      detail: 'in sync since 2026-11-24T11:32:12.056Z',
      remedy: 'The daemon retries automatically; see the last error.',
    },
    {
      name: 'firewall',
      ok: true,
      detail: "iptables-nft, the host's default (iptables v1.8.9 (nf_tables)); IPv4 and IPv6",
    },
  ],
  networks: [
    {
      name: 'web',
      id: 'b1946ac92492',
      subnets: ['0.0.0.0/0'],
      ranges: ['any pool'],
      nextHops: ['169.254.138.72', 'fe80::8a48'],
      profiles: ['web'],
      endpoints: 2,
    },
    {
      name: 'proj_default',
      id: '591785b794601',
      subnets: ['10.99.0.0/16', '10.98.0.0/16'],
      ranges: ['10.99.0.0/16', '10.98.0.0/16'],
      nextHops: ['169.254.98.134'],
      profiles: ['proj_default'],
      endpoints: 0,
    },
  ],
  endpoints: [
    {
      container: 'app',
      network: 'web',
      namespace: 'libnetwork',
      addresses: ['10.65.56.192/32'],
      profiles: ['web'],
      interface: 'cali02e868be399',
      state: 'ready',
    },
    {
      container: 'cache',
      network: 'web',
      namespace: 'libnetwork',
      addresses: ['10.65.56.193/32', 'fd1c:d0f0:8f0f::1/128'],
      profiles: ['db', 'web'],
      interface: 'cali12e868be399',
      state: 'ready',
    },
  ],
  pools: [
    { name: 'default-ipv4-ippool', cidr: '10.65.0.0/16', free: '65534', total: '65536' },
    {
      name: 'default-ipv6-ippool',
      cidr: 'fd1c:d0f0:8f0f::/48',
      free: '1208925819614629174706175',
      total: '1208925819614629174706176',
    },
  ],
  reachedByBgp: [],
  drops: [
    { container: 'app', rule: 'inbound: no matching rule', packets: 2, bytes: 120 },
    { container: 'cache', rule: 'inbound: Profile db, rule 1', packets: 10_432, bytes: 888_120 },
    {
      container: '-',
      rule: 'outbound: spoofed source',
      packets: 4,
      bytes: 336,
    },
  ],
};

test('status of a healthy host', () => {
  golden('status-healthy', formatStatus(healthy));
});

test('status of a host with containers in several namespaces', () => {
  const [first, second] = healthy.endpoints;
  if (first === undefined || second === undefined) throw new Error();
  const inShop = {
    ...second,
    namespace: 'shop',
    network: 'front',
    profiles: ['front', 'kns.shop'],
  };
  golden('status-namespaces', formatStatus({ ...healthy, endpoints: [first, inShop] }));
});

test('status of a host with a container in quarantine, a missing Profile, and no datastore', () => {
  const [sockets, , kernel, firewall] = healthy.checks;
  if (sockets === undefined || kernel === undefined || firewall === undefined) throw new Error();
  golden(
    'status-unhealthy',
    formatStatus({
      ...healthy,
      checks: [
        sockets,
        {
          name: 'datastore',
          ok: false,
          detail: 'http://10.0.0.1:2379: the watch ended (14 UNAVAILABLE)',
          remedy:
            'Running containers keep their network and policy. Restore the connection to the datastore.',
        },
        kernel,
        firewall,
        {
          name: 'Profile db',
          ok: false,
          detail: 'does not exist; all traffic of container cache (network web) is denied',
          remedy: 'Add it: calico-cnm profile add db',
        },
      ],
      endpoints: [
        ...healthy.endpoints,
        {
          container: 'endpoint 22e868be3991',
          network: '',
          namespace: 'libnetwork',
          addresses: ['10.65.56.195/32'],
          profiles: [],
          interface: 'cali22e868be399',
          state: 'quarantine: Docker did not answer within 2 s',
        },
      ],
      lastError: {
        at: '2026-11-24T11:40:00.000Z',
        what: 'iptables-restore failed (exit status 4): Another app is currently holding the xtables lock',
        remedy:
          'The daemon retries automatically. If the problem persists, see the log: journalctl -u calico-cnm.',
      },
    }),
  );
});
