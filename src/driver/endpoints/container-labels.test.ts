import assert from 'node:assert/strict';
import { test } from 'node:test';
import { plainEndpoint, plainNetwork } from './endpoint.fixture.ts';
import { copiedLabels, labelFilter, portsOfLabels } from './container-labels.ts';
import { endpointPolicy } from './endpoint-policy.ts';
import { withPolicy } from './endpoint-record.ts';
import { emptySelection } from './selection.ts';

const all = labelFilter(['*']);

test('labels that Calico reserves or rejects are skipped, and named', () => {
  assert.deepEqual(
    copiedLabels(
      {
        'com.example.role': 'db',
        'com.docker.compose.project.config_files': '/home/me/compose.yaml',
        'com.docker.compose.project.working_dir': '/home/me',
        long: 'x'.repeat(64),
        'my key': 'x',
        'projectcalico.org/namespace': 'kube-system',
        'pcns.team': 'a',
        'pcsa.role': 'admin',
        'com.docker.network.name': 'forged',
        'org.projectcalico.profile': 'db',
        empty: '',
      },
      all,
    ),
    {
      labels: { 'com.example.role': 'db', empty: '' },
      problems: [
        'reserved by Calico: "projectcalico.org/namespace", "pcns.team", "pcsa.role"',
        'not legal in Calico: "com.docker.compose.project.config_files", "com.docker.compose.project.working_dir", "long", "my key"',
      ],
    },
  );
});

test('ports have names by labels; the names of published ports are reserved', () => {
  const label = (name: string) => `org.projectcalico.port.${name}`;
  const { ports, problems } = portsOfLabels({
    [label('http')]: '8080',
    [label('dns')]: '53/UDP',
    [label('80')]: '80',
    [label('tcp-80')]: '22',
    [label('none')]: '0',
    [label('words')]: 'eighty',
    [label('icmp')]: '8/icmp',
    other: '80',
  });
  assert.deepEqual(ports, [
    { name: 'http', protocol: 'TCP', port: 8080 },
    { name: 'dns', protocol: 'UDP', port: 53 },
  ]);
  assert.deepEqual(
    problems.map((text) => text.replace(/^label "org\.projectcalico\.port\.[^:]*: /, '')),
    [
      '"80" is not a port name',
      '"tcp-80" is a name of published ports',
      'is not a port such as 80, 80/tcp or 53/udp',
      'is not a port such as 80, 80/tcp or 53/udp',
      'is not a port such as 80, 80/tcp or 53/udp',
    ],
  );
});

const network = { ...plainNetwork('here', 'n1'), name: 'web', options: { labels: { site: 'a' } } };
const container = {
  id: 'c1',
  name: 'My_DB',
  labels: {
    'org.projectcalico.label.role': 'db',
    'org.projectcalico.port.sql': '5432',
    'com.docker.compose.project': 'shop',
    'com.docker.compose.service': 'db',
    'com.docker.compose.oneoff': 'False',
    'com.example.team': 'a',
  },
};
const policyWith = (patterns: readonly string[]) =>
  endpointPolicy(network, emptySelection, { container, isTaken: labelFilter(patterns) });

test('endpoints have the labels for Calico, project, service, network and container', () => {
  const usual = ['org.projectcalico.label.*', 'com.docker.compose.project'];
  const named = ['com.docker.compose.service', 'com.docker.network.*', 'com.docker.container.name'];
  assert.deepEqual(policyWith([...usual, ...named]).labels, {
    site: 'a',
    role: 'db',
    'com.docker.network.name': 'web',
    'com.docker.container.name': 'My_DB',
    'com.docker.compose.project': 'shop',
    'com.docker.compose.service': 'db',
  });
});

test('the setting names the labels that endpoints have instead', () => {
  assert.deepEqual(policyWith(['com.example.*', 'com.docker.network.name']).labels, {
    site: 'a',
    'com.example.team': 'a',
    'com.docker.network.name': 'web',
  });
  assert.equal(Object.keys(policyWith(['*']).labels).length, 8);
});

test('labels and named ports of a container that it does not have any more are removed, those of others stay', () => {
  const endpoint = plainEndpoint(network, 'e1', '10.65.0.1');
  const others = [{ name: 'theirs', protocol: 'TCP', port: 1 }];
  const published = { name: 'tcp-80', protocol: 'TCP', port: 80, hostPort: 80, hostIP: '0.0.0.0' };
  const first = withPolicy(
    { ...endpoint, spec: { ...endpoint.spec, ports: [...others, published] } },
    policyWith(['*']),
  );
  const sql = { name: 'sql', protocol: 'TCP', port: 5432, hostPort: 0, hostIP: '' };
  assert.deepEqual(first.spec.ports, [...others, published, sql]);
  assert.deepEqual(withPolicy(first, policyWith(['*'])), first);
  const bare = endpointPolicy(network, emptySelection, {
    container: { ...container, labels: {} },
    isTaken: labelFilter(['none']),
  });
  const last = withPolicy(first, bare);
  assert.deepEqual(last.spec.ports, [...others, published]);
  assert.deepEqual(Object.keys(last.metadata.labels ?? {}).toSorted(), [
    'projectcalico.org/namespace',
    'projectcalico.org/orchestrator',
    'site',
  ]);
});
