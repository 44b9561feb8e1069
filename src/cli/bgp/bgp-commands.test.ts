import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { BgpReport } from '../../bird/report.ts';
import { formatBgp } from './bgp-commands.ts';
import { startCommandLine } from '../command-line.fixture.ts';

test('BGP is enabled and disabled by an annotation, and the rest of the configuration stays', async () => {
  using cli = startCommandLine();
  const stored = () =>
    cli.write((draft) => draft.get('BGPConfiguration', 'default') ?? assert.fail());
  await cli.ok(['bgp', 'enable']);
  await cli.ok(['bgp', 'mesh', 'off']);
  const { metadata, spec } = await stored();
  assert.deepEqual(metadata.annotations, { 'docker.projectcalico.org/bgp': 'on' });
  assert.deepEqual(spec, { nodeToNodeMeshEnabled: false });
  await cli.ok(['bgp', 'disable']);
  assert.deepEqual((await stored()).metadata.annotations, {});
  assert.deepEqual((await stored()).spec, spec);
  const { status, error } = await cli.run(['bgp', 'mesh', 'maybe']);
  assert.deepEqual([status, error], [1, 'calico-cnm: STATE: must be on or off\n']);
});

test('a reflector is a node with a cluster ID that a BGPPeer selects by its label', async () => {
  using cli = startCommandLine();
  const metadata = { name: 'a', labels: { rack: '1' } };
  const bgp = { ipv4Address: '192.0.2.1/24' };
  await cli.write((draft) =>
    draft.put('Node', 'a', {
      kind: 'Node',
      apiVersion: 'projectcalico.org/v3',
      metadata,
      spec: { bgp },
    }),
  );
  const stored = () => cli.write((draft) => draft.get('Node', 'a') ?? assert.fail());
  await cli.ok(['bgp', 'reflector', 'add', 'a', '--cluster-id', '1.0.0.1']);
  assert.deepEqual((await stored()).spec.bgp, { ...bgp, routeReflectorClusterID: '1.0.0.1' });
  const label = 'docker.projectcalico.org/route-reflector';
  assert.deepEqual((await stored()).metadata.labels, { rack: '1', [label]: '' });
  const peer = await cli.write((draft) => draft.get('BGPPeer', 'route-reflectors'));
  assert.deepEqual(peer?.spec, { nodeSelector: 'all()', peerSelector: `has(${label})` });
  await cli.ok(['bgp', 'reflector', 'remove', 'a']);
  assert.deepEqual((await stored()).spec.bgp, bgp);
  assert.deepEqual((await stored()).metadata.labels, metadata.labels);
  for (const [argv, why] of [
    [['add', 'b'], 'Node b does not exist'],
    [['add', 'a', '--cluster-id', 'one'], '--cluster-id: "one" is not an IPv4 address'],
  ] as const) {
    const { status, error } = await cli.run(['bgp', 'reflector', ...argv]);
    assert.deepEqual([status, error], [1, `calico-cnm: ${why}\n`]);
  }
});

test('a router is added and removed by one command each, and mistakes are said in one line', async () => {
  using cli = startCommandLine();
  const metadata = { name: 'a' };
  const spec = { bgp: { ipv4Address: '192.0.2.1/24' } };
  await cli.write((draft) =>
    draft.put('Node', 'a', { kind: 'Node', apiVersion: 'projectcalico.org/v3', metadata, spec }),
  );
  const stored = () =>
    cli.write((draft) =>
      [...draft.entries('BGPPeer')].map(([name, peer]) => [name, peer.spec] as const),
    );
  await cli.ok(['bgp', 'peer', 'add', '192.0.2.254', '--as', '65001']);
  const six = ['bgp', 'peer', 'add', '[2001:db8::1]:1790', '--as', '65001.1', '--name', 'six'];
  await cli.ok([...six, '--node', 'a', '--password', 'bgp/rack']);
  assert.deepEqual(await stored(), [
    ['192-0-2-254', { peerIP: '192.0.2.254', asNumber: 65_001 }],
    [
      'six',
      {
        node: 'a',
        peerIP: '[2001:db8::1]:1790',
        asNumber: 65_001 * 65_536 + 1,
        password: { secretKeyRef: { name: 'bgp', key: 'rack' } },
      },
    ],
  ]);
  for (const [argv, why] of [
    [['add', '192.0.2.254', '--as', '65002'], 'BGPPeer 192-0-2-254 already exists'],
    [['add', 'rack', '--as', '1'], 'ADDRESS: "rack" is not an IP address, with or without a port'],
    [
      ['add', '192.0.2.9', '--as', 'x'],
      '--as: "x" is not an AS number such as 64512, or "64512.1" in quotes',
    ],
    [['add', '192.0.2.9', '--as', '1', '--node', 'b'], 'Node b does not exist'],
    [
      ['add', '192.0.2.9', '--as', '1', '--password', 'x'],
      '--password: "x" is not NAME/KEY of a file below the password folder',
    ],
    [
      ['add', '192.0.2.1', '--as', '1', '--node', 'a'],
      'BGPPeer 192-0-2-1: spec.peerIP: 192.0.2.1 is the address of Node a itself',
    ],
    [
      ['add', '192.0.2.9', '--as', '1', '--node-selector', 'a ='],
      /^BGPPeer 192-0-2-9: spec\.nodeSelector: /,
    ],
    [['remove', '192.0.2.9'], 'BGPPeer 192.0.2.9 does not exist'],
  ] as const) {
    const { status, error } = await cli.run(['bgp', 'peer', ...argv]);
    assert.equal(status, 1);
    const said = error.replace(/^calico-cnm: /, '').trimEnd();
    if (typeof why === 'string') assert.equal(said, why);
    else assert.match(said, why);
  }
  await cli.ok(['bgp', 'peer', 'remove', '192.0.2.254']);
  await cli.ok(['bgp', 'peer', 'remove', 'six']);
  assert.deepEqual(await stored(), []);
});

test('a command says before it writes which BGP sessions its changes start again', async () => {
  using cli = startCommandLine();
  await cli.write((draft) => {
    for (const [index, name] of ['a', 'b', 'c', 'd'].entries()) {
      const bgp = { ipv4Address: `192.0.2.${index + 1}/24` };
      const metadata = { name };
      draft.put('Node', name, {
        kind: 'Node',
        apiVersion: 'projectcalico.org/v3',
        metadata,
        spec: { bgp },
      });
    }
  });
  const apply = async (kind: string, name: string, spec: object, annotations = {}) => {
    const metadata = { name, annotations };
    const document = { apiVersion: 'projectcalico.org/v3', kind, metadata, spec };
    return cli.ok(['apply', '-f', cli.file('change.yaml', JSON.stringify(document))]);
  };
  const on = { 'docker.projectcalico.org/bgp': 'on' };
  const changed = { nodeMeshMaxRestartTime: '60s' };
  assert.doesNotMatch(await apply('BGPConfiguration', 'default', changed), /warning/, 'BGP is off');
  assert.doesNotMatch(await apply('BGPConfiguration', 'default', {}, on), /warning/, 'it begins');
  assert.equal(
    await apply('BGPConfiguration', 'default', changed, on),
    'warning: 6 BGP sessions end and start again: a with b, a with c, a with d, …\nBGPConfiguration default changed\n',
  );
  assert.match(
    await apply('Node', 'd', { bgp: { ipv4Address: '192.0.2.4/24', asNumber: 65_000 } }),
    /^warning: 3 BGP sessions end and start again: a with d, b with d, c with d\nNode d changed\n/,
  );
  assert.match(
    await apply('BGPPeer', 'rack', { peerIP: '192.0.2.254', asNumber: 65_001 }),
    /^BGPPeer rack created/,
  );
  assert.match(
    await cli.ok(['bgp', 'reflector', 'add', 'a']),
    /^warning: 3 BGP sessions end and start again: a with b, a with c, a with d\nNode a is a route reflector/,
  );
  assert.doesNotMatch(await cli.ok(['bgp', 'drain', 'a']), /warning/);
  // Sessions of the mesh take the place of those of the BGPPeer.
  assert.match(await cli.ok(['bgp', 'reflector', 'remove', 'a']), /^warning: 3 BGP sessions end/);
  await apply('BGPPeer', 'b-c', { node: 'b', peerIP: '192.0.2.3', keepaliveTime: '5s' });
  assert.equal(
    await cli.ok(['delete', 'bgppeer', 'b-c']),
    'warning: 1 BGP session ends and starts again: b with c\nBGPPeer b-c deleted\n',
  );
  assert.match(
    await cli.ok(['delete', 'bgpconfig', 'default']),
    /^BGPConfiguration default deleted/,
    'BGP ends',
  );
});

test('a value that a BGP speaker would refuse is refused, with resource and field', async () => {
  using cli = startCommandLine();
  const short = '{action: Accept, matchOperator: In, cidr: 10.0.0.0/16, prefixLength: {max: 8}}';
  const router = 'peerIP: 192.0.2.1, asNumber: 1';
  for (const [kind, spec, why] of [
    ['BGPConfiguration', 'ipv4NormalRoutePriority: 0', 'ipv4NormalRoutePriority: must be an'],
    ['BGPConfiguration', 'bindMode: Any', 'bindMode: "Any" is none of None, NodeIP'],
    ['BGPConfiguration', 'logSeverityScreen: Loud', 'logSeverityScreen: "Loud" is none of'],
    [
      'BGPConfiguration',
      'nodeMeshMaxRestartTime: 2h',
      'nodeMeshMaxRestartTime: must be from 0s to',
    ],
    ['BGPConfiguration', 'asNumber: 0', 'asNumber: 0 is reserved'],
    ['BGPConfiguration', 'asNumber: 4294967296', 'asNumber: "4294967296" is not an AS number'],
    ['Node', 'bgp: {asNumber: 0}', 'bgp.asNumber: 0 is reserved'],
    ['BGPPeer', 'peerIP: 192.0.2.1, asNumber: 0', 'asNumber: 0 is reserved'],
    ['BGPPeer', `${router}, ttlSecurity: 300`, 'ttlSecurity: must be an integer from 1 to 255'],
    ['BGPPeer', `${router}, keepaliveTime: 1h`, 'keepaliveTime: must be from 1s to 240s'],
    ['BGPPeer', `${router}, sourceAddress: eth0`, 'sourceAddress: "eth0" is none of'],
    ['BGPPeer', `${router}, nextHopMode: Own`, 'nextHopMode: "Own" is none of Auto, Self, Keep'],
    ['BGPFilter', `importV4: [${short}]`, 'importV4.0.prefixLength: must be from 16 to 32'],
  ] as const) {
    const text = `apiVersion: projectcalico.org/v3\nkind: ${kind}\nmetadata: {name: default}\nspec: {${spec}}\n`;
    const { status, error } = await cli.run(['apply', '-f', '-'], text);
    assert.equal(status, 1);
    const said = `calico-cnm: ${kind} default: spec.${why}`;
    assert.equal(error.slice(0, said.length), said, error);
  }
});

test('draining is an annotation of the Node', async () => {
  using cli = startCommandLine();
  const metadata = { name: 'a', annotations: { mine: 'x' } };
  await cli.write((draft) =>
    draft.put('Node', 'a', {
      kind: 'Node',
      apiVersion: 'projectcalico.org/v3',
      metadata,
      spec: {},
    }),
  );
  const annotations = () =>
    cli.write((draft) => draft.get('Node', 'a')?.metadata.annotations ?? assert.fail());
  await cli.ok(['bgp', 'drain', 'a']);
  await cli.ok(['bgp', 'drain', 'a']);
  assert.deepEqual(await annotations(), {
    mine: 'x',
    'docker.projectcalico.org/bgp-drain': 'on',
  });
  await cli.ok(['bgp', 'undrain', 'a']);
  assert.deepEqual(await annotations(), { mine: 'x' });
  const { error } = await cli.run(['bgp', 'drain', 'b']);
  assert.equal(error, 'calico-cnm: Node b does not exist\n');
});

test('the status says why sessions are down, and what has no effect', () => {
  const counts = { imported: 1, filtered: 0, exported: 2, isAtLimit: false };
  const session = { type: 'global', as: 65_001, ...counts };
  const report: BgpReport = {
    isOn: true,
    node: 'a',
    routerId: '192.0.2.1',
    isDraining: true,
    sessions: [
      {
        ...session,
        peer: '192.0.2.254',
        of: 'BGPPeer rack',
        state: 'Established',
        since: '2026-11-30T01:00:00.000Z',
      },
      { ...session, peer: '192.0.2.9', of: 'node b', state: 'Connect', why: 'no answer' },
    ],
    problems: ['BGPPeer x spec.asNumber: is missing'],
    ended: { at: '2026-11-30T00:59:00.000Z', peers: ['192.0.2.9'] },
  };
  assert.deepEqual(formatBgp(report).split('\n'), [
    'Node a, router ID 192.0.2.1',
    'is being drained; undo it: calico-cnm bgp undrain a',
    'PEER          OF             TYPE        AS   STATE         SINCE                      IN   FILTERED   OUT',
    '192.0.2.254   BGPPeer rack   global   65001   Established   2026-11-30T01:00:00.000Z    1          0     2',
    '192.0.2.9     node b         global   65001   Connect                                   1          0     2',
    '192.0.2.9 is down: no answer',
    'no effect: BGPPeer x spec.asNumber: is missing',
    'sessions ended by a change of resources at 2026-11-30T00:59:00.000Z: 192.0.2.9',
    '',
  ]);
  assert.equal(formatBgp({ ...report, isOn: false, why: 'BGP is off' }), 'BGP is off\n');
});
