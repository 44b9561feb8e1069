import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parse } from 'yaml';
import { z } from 'zod';
import { parseAddress } from '../../ip/address.ts';
import { hostCidr, parseCidr } from '../../ip/cidr.ts';
import { newBlock } from '../../ipam/records/block.ts';
import { assignInBlock, putBlock } from '../../ipam/records/records.ts';
import { entryKinds } from '../../model/kinds/index.ts';
import { formatJson } from '../../model/json.ts';
import { startCommandLine, type CommandLine } from '../command-line.fixture.ts';

/** Invalid input: one line that names the fault and its place, exit status not 0, nothing changed. */

const pool = (name: string, spec: string) =>
  `apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: ${name}}\nspec: ${spec}\n`;
const profile = (name: string, spec: string) =>
  `apiVersion: projectcalico.org/v3\nkind: Profile\nmetadata: {name: ${name}}\nspec: ${spec}\n`;

const policy = (name: string, spec: string) =>
  `apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: ${name}}\nspec: ${spec}\n`;

/** A datastore with a pool with an address in use, and a Profile used by a container. */
async function used(): Promise<CommandLine> {
  const cli = startCommandLine();
  await cli.ok(['apply', '-f', '-'], pool('ten', '{cidr: 10.99.0.0/16}'));
  await cli.ok(['profile', 'add', 'web']);
  await cli.write((draft) => {
    const address = parseAddress('10.99.0.5');
    const block = newBlock(parseCidr('10.99.0.0/26'), 'host-1', new Date(0));
    putBlock(draft, block);
    assignInBlock(draft, block, {
      address,
      holder: { handle_id: 'h', secondary: { node: 'host-1' } },
    });
    draft.put('WorkloadEndpoint', 'libnetwork/host--1-libnetwork-libnetwork-e1', {
      kind: 'WorkloadEndpoint',
      apiVersion: 'projectcalico.org/v3',
      metadata: { name: 'host--1-libnetwork-libnetwork-e1', namespace: 'libnetwork' },
      spec: {
        orchestrator: 'libnetwork',
        workload: 'app',
        containerID: 'c1',
        node: 'host-1',
        endpoint: 'e1',
        ipNetworks: [hostCidr(address)],
        profiles: ['web'],
        interfaceName: 'calie1',
      },
    });
  });
  return cli;
}

/** Returns the contents of the datastore as text. */
function contents(cli: CommandLine): Promise<string> {
  return cli.write((draft) =>
    entryKinds.map((kind) => formatJson([kind, ...draft.entries(kind)])).join('\n'),
  );
}

async function refusal(
  cli: CommandLine,
  argv: readonly string[],
  input?: string,
): Promise<{ readonly status: number; readonly message: string }> {
  const before = await contents(cli);
  const { status, out, error } = await cli.run(argv, input);
  assert.equal(out, '');
  assert.match(error, /^calico-cnm: [^\n]+\n$/, 'one line says what is wrong');
  assert.equal(await contents(cli), before, 'nothing has changed');
  return { status, message: error.slice('calico-cnm: '.length, -1) };
}

type Wrong = readonly [what: string, document: string, message: RegExp];

/** Returns Profiles with an allow rule that has these fields. */
function ofRules(rules: readonly (readonly [what: string, rule: string, message: string])[]) {
  return rules.map(([what, rule, message]): Wrong => [
    `a rule of ${what}`,
    profile('a', `{ingress: [{action: allow, ${rule}}]}`),
    new RegExp(`^${RegExp.escape(`Profile a: spec.ingress.0.${message}`)}$`),
  ]);
}

const wrongDocuments: readonly Wrong[] = [
  [
    'a domain name with half a wildcard',
    'apiVersion: projectcalico.org/v3\nkind: GlobalNetworkSet\nmetadata: {name: a}\nspec: {allowedEgressDomains: [a.test, "a*.test"]}\n',
    /^GlobalNetworkSet a: spec\.allowedEgressDomains\.1: must be a domain name such as api\.example\.com or \*\.example\.com, /,
  ],
  ['wrong YAML', 'kind: [', /^document 1: .* at line 1/],
  ['an alias of nothing', 'kind: *x', /^document 1: Unresolved alias/],
  ['a key that is no text', '? [a, b]\n: 1', /^document 1: keys must be strings at line 1/],
  [
    'what is nested deeper than can be followed',
    `kind: ${'['.repeat(20_000)}${']'.repeat(20_000)}`,
    /^document 1: is nested more than 100 levels deep$/,
  ],
  [
    'what is nested deeper than any resource',
    profile('a', `${'{a: '.repeat(200)}1${'}'.repeat(200)}`),
    /^document 1: is nested more than 100 levels deep$/,
  ],
  [
    'a selector that is nested too deep',
    policy('a', `{selector: "${'('.repeat(20_000)}all()${')'.repeat(20_000)}"}`),
    /^GlobalNetworkPolicy a: spec\.selector: selector "\({80}…": syntax error at character 102: more than 100 parentheses inside each other$/,
  ],
  ['no resource', '# nothing\n', /^-: contains no resource$/],
  ['a document that is no object', '42', /^document 1: must be an object$/],
  ['a document without a kind', 'metadata: {name: a}', /^document 1: kind: is missing$/],
  ['an unknown kind', 'kind: Pod\nmetadata: {name: a}', /^unknown kind "Pod"; known: IPPool, /],
  [
    'a kind of the daemon',
    'apiVersion: projectcalico.org/v3\nkind: ClusterInformation\nmetadata: {name: default}\nspec: {}',
    /^ClusterInformation default: is built in and cannot be changed$/,
  ],
  [
    'a name that Calico refuses',
    profile('Web', '{}'),
    /^Profile Web: metadata\.name: must be a lower-case DNS name/,
  ],
  [
    'a mistyped field',
    profile('a', '{ingres: []}'),
    /^Profile a: spec\.ingres: is not a field; there are ingress, egress, labelsToApply$/,
  ],
  [
    'a wrong action',
    profile('a', '{ingress: [{action: Permit}]}'),
    /^Profile a: spec\.ingress\.0\.action: must be one of Allow, Deny, Log, Pass$/,
  ],
  [
    'a wrong port',
    profile('a', '{ingress: [{action: Allow, protocol: TCP, destination: {ports: [70000]}}]}'),
    /^Profile a: spec\.ingress\.0\.destination\.ports\.0: /,
  ],
  [
    'ports without a protocol that has them',
    profile('a', '{ingress: [{action: Allow, destination: {ports: [80]}}]}'),
    /^Profile a: spec\.ingress\.0\.destination\.ports: needs protocol TCP, UDP or SCTP$/,
  ],
  [
    'a wrong selector',
    profile('a', '{ingress: [{action: Allow, source: {selector: "has("}}]}'),
    /^Profile a: spec\.ingress\.0\.source\.selector: selector "has\(": syntax error at character \d+: /,
  ],
  [
    'an address that is none',
    pool('a', '{cidr: 10.0.0.0/33}'),
    /^IPPool a: spec\.cidr: "10\.0\.0\.0\/33" is not a CIDR/,
  ],
  [
    'a network with host bits',
    pool('a', '{cidr: 10.98.0.1/16}'),
    /^IPPool a: spec\.cidr: .* the network is 10\.98\.0\.0\/16$/,
  ],
  [
    'a pool that overlaps another',
    pool('a', '{cidr: 10.99.4.0/24}'),
    /^IPPool a: spec\.cidr: overlaps IPPool ten \(10\.99\.0\.0\/16\)$/,
  ],
  [
    'two pools that overlap each other',
    `${pool('a', '{cidr: 10.97.0.0/16}')}---\n${pool('b', '{cidr: 10.97.1.0/24}')}`,
    /^IPPool b: spec\.cidr: overlaps IPPool a /,
  ],
  [
    'a changed pool range',
    pool('ten', '{cidr: 10.98.0.0/16}'),
    /^IPPool ten: spec\.cidr: cannot be changed from 10\.99\.0\.0\/16$/,
  ],
  [
    'a wrong node selector',
    pool('a', '{cidr: 10.98.0.0/16, nodeSelector: "zone =="}'),
    /^IPPool a: spec\.nodeSelector: selector "zone ==": syntax error at character \d+: /,
  ],
  [
    'a block size that does not fit',
    pool('a', '{cidr: 10.98.0.0/16, blockSize: 40}'),
    /^IPPool a: spec\.blockSize: must be from 20 to 32$/,
  ],
  [
    'IP-in-IP for IPv6',
    pool('a', '{cidr: "fd00::/64", ipipMode: Always}'),
    /^IPPool a: spec\.ipipMode: IP-in-IP carries IPv4 only$/,
  ],
  [
    'a namespace where the kind has none',
    pool('a', '{cidr: 10.98.0.0/16}').replace('name: a', 'name: a, namespace: shop'),
    /^IPPool a: metadata\.namespace: must be empty: IPPool is not namespaced$/,
  ],
  [
    'a policy in a tier that is not there',
    policy('a', '{tier: first}'),
    /^GlobalNetworkPolicy a: spec\.tier: Tier first does not exist$/,
  ],
  [
    'a policy with a wrong selector in a rule',
    policy('a', '{ingress: [{action: Deny}, {action: Allow, source: {selector: "a =="}}]}'),
    /^GlobalNetworkPolicy a: spec\.ingress\.1\.source\.selector: selector "a ==": syntax error at/,
  ],
  [
    'global() where endpoints are selected',
    policy('a', '{selector: "has(a) || !global()"}'),
    /^GlobalNetworkPolicy a: spec\.selector: global\(\) may only stand alone/,
  ],
  [
    'ports of a policy without a protocol',
    policy('a', '{ingress: [{action: Allow, destination: {ports: [http, 80]}}]}'),
    /^GlobalNetworkPolicy a: spec\.ingress\.0\.destination\.ports: needs protocol TCP, UDP or SCTP$/,
  ],
  [
    'a policy rule of two families',
    policy('a', '{ingress: [{action: Allow, ipVersion: 4, source: {nets: ["fd00::/8"]}}]}'),
    /^GlobalNetworkPolicy a: spec\.ingress\.0\.source\.nets: "fd00::\/8" contradicts ipVersion 4$/,
  ],
  ...ofRules([
    [
      'networks of both families',
      'source: {nets: [10.0.0.0/8]}, destination: {notNets: ["fd00::/8"]}',
      'destination.notNets: "fd00::/8" makes the rule mix IPv4 and IPv6; write a rule for each',
    ],
    [
      'a network that contradicts ipVersion',
      'ipVersion: 6, source: {nets: [10.0.0.0/8]}',
      'source.nets: "10.0.0.0/8" contradicts ipVersion 6',
    ],
    [
      'ICMP of the other family',
      'ipVersion: 6, protocol: icmp',
      'protocol: ICMP contradicts ipVersion 6',
    ],
    [
      'no ICMP of the other family',
      'ipVersion: 4, notProtocol: icmpv6',
      'notProtocol: ICMPv6 contradicts ipVersion 4',
    ],
    ['port 0', 'protocol: TCP, source: {ports: ["0:9"]}', 'source.ports: must begin at 1'],
    [
      'ports of UDPLite',
      'protocol: UDPLite, source: {notPorts: [http]}',
      'source.notPorts: needs protocol TCP, UDP or SCTP',
    ],
    ['types of no ICMP', 'icmp: {type: 8}', 'icmp: needs protocol ICMP or ICMPv6'],
    ['a code of every type', 'protocol: ICMP, icmp: {code: 4}', 'icmp.code: needs a type'],
    [
      'all networks but none',
      'source: {notNets: [0.0.0.0/0]}',
      'source.notNets: excludes every address',
    ],
    [
      'global() beside others',
      'source: {namespaceSelector: "global() || has(a)"}',
      'source.namespaceSelector: global() may only stand alone in a namespaceSelector of a rule',
    ],
    [
      'services',
      'destination: {services: {name: a}}',
      'destination.services: is not enforced: it needs Kubernetes',
    ],
    [
      'service accounts',
      'source: {serviceAccounts: {names: [a]}}',
      'source.serviceAccounts: is not enforced: it needs Kubernetes',
    ],
    ['HTTP', 'http: {methods: [GET]}', 'http: is not enforced: it needs a proxy'],
  ]),
  [
    'a Profile that every datastore has',
    profile('projectcalico-default-allow', '{ingress: [{action: Deny}]}'),
    /^Profile projectcalico-default-allow: is built in and cannot be changed$/,
  ],
  [
    'a tier of two names',
    policy('a.b', '{order: 1}').replace('GlobalNetworkPolicy', 'Tier'),
    /^Tier a\.b: metadata\.name: must be a name of at most 63 characters without dots$/,
  ],
  [
    'another order of the tier default',
    policy('default', '{order: 5}').replace('GlobalNetworkPolicy', 'Tier'),
    /^Tier default: spec\.order: must be 1000000 for the tier default$/,
  ],
  [
    'policy before DNAT that does not apply on forward',
    policy('a', '{preDNAT: true}'),
    /^GlobalNetworkPolicy a: spec\.applyOnForward: must be true with preDNAT or doNotTrack$/,
  ],
  [
    'a field of GlobalNetworkPolicies in a NetworkPolicy',
    policy('a', '{namespaceSelector: all()}').replace('GlobalNetworkPolicy', 'NetworkPolicy'),
    /^NetworkPolicy a: spec\.namespaceSelector: is not a field; there are tier, order, /,
  ],
  [
    'a policy of three names',
    policy('a.b.c', '{}'),
    /^GlobalNetworkPolicy a\.b\.c: metadata\.name: must be a name such as/,
  ],
  [
    'a host endpoint of no interface',
    policy('a', '{node: host-1}').replace('GlobalNetworkPolicy', 'HostEndpoint'),
    /^HostEndpoint a: spec\.interfaceName: is required if expectedIPs is not set$/,
  ],
  [
    'a BGP peer whose filter is not there',
    policy('a', '{peerIP: 192.0.2.1, asNumber: 1, filters: [own]}').replace(
      'GlobalNetworkPolicy',
      'BGPPeer',
    ),
    /^BGPPeer a: spec\.filters: BGPFilter own does not exist$/,
  ],
  [
    'an AS number that YAML has rounded',
    policy('a', '{peerIP: 192.0.2.1, asNumber: 64512.10}').replace(
      'GlobalNetworkPolicy',
      'BGPPeer',
    ),
    /^BGPPeer a: spec\.asNumber: "64512\.1" is not an AS number such as 64512, or "64512\.1" in quotes$/,
  ],
  [
    'a setting of all hosts for one',
    policy('node.a', '{asNumber: 1}').replace('GlobalNetworkPolicy', 'BGPConfiguration'),
    /^BGPConfiguration node\.a: spec\.asNumber: can be set in BGPConfiguration default only$/,
  ],
  [
    'a BGP filter of the other family',
    policy('a', '{importV4: [{action: Accept, matchOperator: In, cidr: "fd00::/8"}]}').replace(
      'GlobalNetworkPolicy',
      'BGPFilter',
    ),
    /^BGPFilter a: spec\.importV4\.0\.cidr: must be of IPv4$/,
  ],
  ...(
    [
      ['{reportingInterval: 30}', /spec\.reportingInterval: must be a string$/],
      [
        '{reportingInterval: 30 s}',
        /spec\.reportingInterval: "30 s" is not a duration such as 90s/,
      ],
      ['{bpfEnabled: "false"}', /spec\.bpfEnabled: must be true or false$/],
      ['{goMaxProcs: -2}', /spec\.goMaxProcs: must be at least -1$/],
      ['{wireguardListeningPort: 70000}', /spec\.wireguardListeningPort: must be from 1 to 65535$/],
      ['{ipipMTU: 1480.5}', /spec\.ipipMTU: must be an integer$/],
      ['{serviceLoopPrevention: no}', /spec\.serviceLoopPrevention: must be one of Drop, Reject, /],
      ['{natPortRange: true}', /spec\.natPortRange: must be a port or a range such as 8000:8010$/],
      ['{externalNodesList: 10.0.0.1}', /spec\.externalNodesList: must be a list$/],
      ['{bpfLogFilters: {eth0: 1}}', /spec\.bpfLogFilters\.eth0: /],
      ['{routeTableRanges: [{min: 0}]}', /spec\.routeTableRanges\.0\.min: must be at least 1$/],
      [
        '{failsafeInboundHostPorts: [{port: 22}, {port: 65536}]}',
        /spec\.failsafeInboundHostPorts\.1\.port: must be from 0 to 65535$/,
      ],
      [
        '{bpfConntrackTimeouts: {udpTimeout: soon}}',
        /spec\.bpfConntrackTimeouts\.udpTimeout: "soon" is neither Auto nor a duration such as 90s$/,
      ],
    ] as const
  ).map(
    ([spec, message]) =>
      [
        `a wrong field of FelixConfiguration: ${spec}`,
        policy('default', spec).replace('GlobalNetworkPolicy', 'FelixConfiguration'),
        message,
      ] as const,
  ),
  [
    'an empty BGP section of a Node',
    policy('a', '{bgp: {}}').replace('GlobalNetworkPolicy', 'Node'),
    /^Node a: spec\.bgp: must not be empty; leave it out$/,
  ],
  [
    'a good document before a wrong one',
    `${profile('good', '{}')}---\n${profile('bad', '{x: 1}')}`,
    /^Profile bad: spec\.x: /,
  ],
  [
    'a good document before one that the datastore refuses',
    `${profile('good', '{}')}---\n${pool('a', '{cidr: 10.99.4.0/24}')}`,
    /^IPPool a: .*overlaps/,
  ],
];

for (const [what, document, expected] of wrongDocuments) {
  test(`apply rejects ${what}`, async () => {
    using cli = await used();
    const { status, message } = await refusal(cli, ['apply', '-f', '-'], document);
    assert.equal(status, 1);
    assert.match(message, expected);
  });
}

const wrongCommands: readonly (readonly [command: string, status: number, message: RegExp])[] = [
  ['delete ippool ten', 1, /^IPPool ten: 1 of its addresses is in use; remove/],
  ['delete profile web', 1, /^Profile web is in use by container app; /],
  ['delete profile none', 1, /^Profile none does not exist$/],
  ['delete tier default', 1, /^Tier default: is built in/],
  ['delete', 2, /^delete needs a kind and names, or -f FILE; see calico-cnm --help$/],
  ['delete profile', 2, /^delete needs a kind and names/],
  ['get pods', 1, /^unknown kind "pods"; known: IPPool, /],
  ['get profile none other', 1, /^Profile none, other does not exist$/],
  ['get profile none', 1, /^Profile none does not exist$/],
  ['get profile -o xml', 2, /argument 'xml' is invalid\. Allowed choices are table, .*, json; see/],
  ['apply -f /does/not/exist.yaml', 1, /^cannot read \/does\/not\/exist\.yaml: .*ENOENT/],
  ['apply -f /', 1, /^cannot read \/: .*EISDIR/],
  ['ipam show --ip 10.99.0', 1, /^"10\.99\.0" is not an IP address$/],
  ['ipam release 10.99.0.6', 1, /^address 10\.99\.0\.6 is not allocated; /],
  [
    'ipam release 10.99.0.5',
    1,
    /^address 10\.99\.0\.5 is in use by container app .*on host host-1; /,
  ],
  ['status', 1, /^the daemon is not running on this host .*systemctl start calico-cnm$/],
  ['status -o xml', 2, /argument 'xml' is invalid\. Allowed choices are text, json; see/],
  [
    'get profile --outptu yaml',
    2,
    /^unknown option '--outptu' \(Did you mean --output\?\); see calico-cnm --help$/,
  ],
  ['apply', 2, /^required option '-f, --filename <file>' not specified; see calico-cnm --help$/],
  ['paint', 2, /^unknown command 'paint'; see calico-cnm --help$/],
  ['get', 2, /^missing required argument 'kind'; see calico-cnm --help$/],
  ['status now', 2, /^too many arguments/],
];

for (const [command, expectedStatus, expected] of wrongCommands) {
  test(`"${command}" is rejected`, async () => {
    using cli = await used();
    const { status, message } = await refusal(cli, command.split(' '));
    assert.match(message, expected);
    assert.equal(status, expectedStatus);
  });
}

test('of several names, the existing ones are shown and deleted, and the missing ones are reported', async () => {
  using cli = await used();
  for (const name of ['a', 'b']) await cli.ok(['profile', 'add', name]);
  const shown = await cli.run(['get', 'profile', 'a', 'none', 'b']);
  assert.equal(shown.status, 1);
  assert.match(shown.out, /^NAME .*\na .*\nb .*\n$/);
  assert.equal(shown.error, 'calico-cnm: Profile none does not exist\n');
  const deleted = await cli.run(['delete', 'profile', 'a', 'none']);
  assert.deepEqual(
    [deleted.status, deleted.out, deleted.error],
    [1, 'Profile a deleted\n', 'calico-cnm: Profile none does not exist\n'],
  );
  const skipped = await cli.run(['delete', 'profile', '--skip-not-exists', 'none', 'b']);
  assert.deepEqual([skipped.status, skipped.out, skipped.error], [0, 'Profile b deleted\n', '']);
});

const shownOne = z.looseObject({ kind: z.string(), items: z.array(z.unknown()).optional() });
const shown = z.union([shownOne, z.array(shownOne)]);

test('JSON and YAML have the form of calicoctl: a list of the kind, an object, or an array; wide shows all columns', async () => {
  using cli = await used();
  for (const [format, read] of [
    ['json', (text: string): unknown => JSON.parse(text)],
    ['yaml', (text: string): unknown => parse(text)],
  ] as const) {
    const shape = async (...argv: readonly string[]) => {
      const document = shown.parse(read(await cli.ok(['get', ...argv, '-o', format])));
      if (Array.isArray(document)) return document.map(({ kind }) => kind);
      const { kind, items } = document;
      return items === undefined ? kind : `${kind} of ${items.length}`;
    };
    assert.equal(await shape('ippool'), 'IPPoolList of 1');
    assert.equal(await shape('ippool', 'ten'), 'IPPool');
    assert.equal(await shape('gnp'), 'GlobalNetworkPolicyList of 0');
    assert.deepEqual(await shape('profile', 'web', 'projectcalico-default-allow'), [
      'Profile',
      'Profile',
    ]);
  }
  assert.match(await cli.ok(['get', 'wep', '-o', 'ps']), /^CONTAINER +NODE /);
  assert.match(
    await cli.ok(['get', 'wep', '-o', 'wide']),
    /^NAMESPACE +NAME +CONTAINER .*\nlibnetwork +host--1-libnetwork-libnetwork-e1 +app /,
  );
});

test('a Node is shown with its AS number, in parentheses if it is the default of all nodes', async () => {
  using cli = startCommandLine();
  const node = (name: string, bgp: string) =>
    `apiVersion: projectcalico.org/v3\nkind: Node\nmetadata: {name: ${name}}\nspec: {bgp: ${bgp}}\n`;
  await cli.ok(
    ['apply', '-f', '-'],
    [node('a', '{asNumber: 64513}'), node('b', '{ipv4Address: 192.0.2.1/24}')].join('---\n'),
  );
  assert.match(await cli.ok(['get', 'node']), /\na +64513\nb +\(64512\) +192\.0\.2\.1\/24\n$/);
  await cli.ok(
    ['apply', '-f', '-'],
    'apiVersion: projectcalico.org/v3\nkind: BGPConfiguration\nmetadata: {name: default}\nspec: {asNumber: 65000}\n',
  );
  assert.match(await cli.ok(['get', 'nodes']), /\nb +\(65000\)/);
});

test('known and unknown fields of FelixConfiguration are stored and shown unchanged', async () => {
  using cli = startCommandLine();
  const spec = {
    reportingInterval: '90s',
    routeTableRanges: [{ min: 1, max: 250 }],
    bpfEnabled: false,
    goMaxProcs: -1,
    logSeverityScreen: 'WARNING',
    natPortRange: '32768:65535',
    bpfConntrackTimeouts: { udpTimeout: 'Auto', tcpSynSent: '' },
    healthTimeoutOverrides: [{ name: 'a b', timeout: '1m30s' }],
    fieldOfTomorrow: [{ size: 1, words: ['a'] }],
  };
  const document = {
    apiVersion: 'projectcalico.org/v3',
    kind: 'FelixConfiguration',
    metadata: { name: 'default' },
    spec,
  };
  await cli.ok(['apply', '-f', '-'], JSON.stringify(document));
  const shown: unknown = JSON.parse(await cli.ok(['get', 'felixconfig', 'default', '-o', 'json']));
  assert.ok(typeof shown === 'object' && shown !== null && 'spec' in shown);
  assert.deepEqual(shown.spec, spec);
});

test('apply of an outdated resourceVersion is rejected; with the current one, or without, it is accepted', async () => {
  using cli = await used();
  const read = await cli.ok(['get', 'profile', 'web', '-o', 'yaml']);
  const edited = read.replace('has(web)', 'has(mine)');
  await cli.ok(['profile', 'web', 'tag', 'add', 'theirs']);
  const { status, message } = await refusal(cli, ['apply', '-f', '-'], edited);
  assert.equal(status, 1);
  assert.match(
    message,
    /^Profile web was modified since .*; read it again \(calico-cnm get\), or omit/,
  );
  const again = await cli.ok(['get', 'profile', 'web', '-o', 'yaml']);
  assert.equal(
    await cli.ok(['apply', '-f', '-'], again.replace('has(web)', 'has(mine)')),
    'Profile web changed\n',
  );
  const bare = edited.replace(/^ *resourceVersion.*\n/m, '').replace('mine', 'forced');
  assert.equal(await cli.ok(['apply', '-f', '-'], bare), 'Profile web changed\n');
});

test('apply accepts the output of get and reports it unchanged', async () => {
  using cli = await used();
  for (const format of ['yaml', 'json']) {
    for (const kind of ['ippool', 'profile', 'workloadendpoint']) {
      const printed = await cli.ok(['get', kind, '-o', format]);
      assert.match(await cli.ok(['apply', '-f', '-'], printed), /^(\w+ [^ ]+ unchanged\n)+$/);
    }
  }
});

test('resources of a file are created, changed and deleted', async () => {
  using cli = await used();
  const file = cli.file('a.yaml', profile('a', '{egress: [{action: Allow}]}'));
  assert.equal(await cli.ok(['apply', '-f', file]), 'Profile a created\n');
  assert.equal(await cli.ok(['apply', '-f', file]), 'Profile a unchanged\n');
  cli.file('a.yaml', profile('a', '{egress: [{action: Deny}]}'));
  assert.equal(await cli.ok(['apply', '-f', file]), 'Profile a changed\n');
  assert.equal(await cli.ok(['delete', '-f', file]), 'Profile a deleted\n');
});

test('an invalid setting is reported with value and origin', async () => {
  using cli = startCommandLine({ ETCD_ENDPOINTS: 'localhost:2379' });
  const { status, error } = await cli.run(['get', 'profile']);
  assert.equal(status, 1);
  assert.equal(
    error,
    'calico-cnm: ETCD_ENDPOINTS="localhost:2379" (from the environment): must be a list such as http://10.0.0.1:2379,http://10.0.0.2:2379\n',
  );
});

test('a datastore that does not respond is named', async () => {
  using cli = startCommandLine({ ETCD_ENDPOINTS: 'http://127.0.0.1:9' });
  const { status, error } = await cli.run(['get', 'profile']);
  assert.equal(status, 1);
  assert.match(
    error,
    /^calico-cnm: datastore http:\/\/127\.0\.0\.1:9 is unavailable \([^\n]+\); [^\n]+\n$/,
  );
});
