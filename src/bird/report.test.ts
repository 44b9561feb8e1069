import assert from 'node:assert/strict';
import { test } from 'node:test';
import { inputsOf } from '../routing/bgp/bgp-cases.fixture.ts';
import { bgpModel } from '../routing/bgp/bgp-model.ts';
import { protocolStates } from './protocol-states.ts';
import { bgpChecks, reportOf, whyDown } from './report.ts';

/** What BIRD 2.0.12 says of a session. */
function said(info: string, details: readonly string[]) {
  const state = info.startsWith('Established') ? 'up   ' : 'start';
  return [
    { code: 2002, text: 'Name       Proto      Table      State  Since         Info' },
    { code: 1002, text: 'device1    Device     ---        up     2026-11-30 01:35:28  ' },
    { code: 1006, text: '' },
    {
      code: 1002,
      text: `Mesh_192_0_2_2 BGP        ---        ${state}  2026-11-30 01:35:34  ${info}`,
    },
    ...details.map((text) => ({ code: 1006, text })),
    { code: 0, text: '' },
  ];
}

const model = bgpModel(inputsOf({ configurations: [] }));
const [session] = model.sessions;

function whyOf(info: string, lastError?: string, more: readonly string[] = []) {
  const [state] = protocolStates(
    said(info, [
      `  BGP state:          ${info.split(' ')[0] ?? ''}`,
      ...(lastError === undefined ? [] : [`    Last error:       ${lastError}`]),
      ...more,
    ]),
  );
  assert.ok(session !== undefined && state !== undefined);
  return whyDown(session, state);
}

test('an established session is reported with its routes', () => {
  const states = protocolStates(
    said('Established   ', [
      '  BGP state:          Established',
      '    Session:          internal multihop AS4',
      '    Routes:         12 imported, 3 filtered, 4 exported, 12 preferred',
    ]),
  );
  const { sessions } = reportOf(model, states);
  const since = new Date('2026-11-30T01:35:34').toISOString();
  assert.deepEqual(sessions[0], {
    peer: '192.0.2.2',
    of: 'node b',
    type: 'node-to-node mesh',
    as: 64_512,
    state: 'Established',
    since,
    imported: 12,
    filtered: 3,
    exported: 4,
    isAtLimit: false,
  });
  assert.equal(sessions[1]?.why, 'BIRD does not run');
});

test('a session that is down has a reason', () => {
  assert.equal(whyOf('Established'), undefined);
  const reasons: readonly (readonly [string, string | undefined, RegExp])[] = [
    [
      'Active        Socket: Connection refused',
      'Socket: Connection refused',
      /^192\.0\.2\.2 refuses TCP port 179/,
    ],
    [
      'Active        Socket: No route to host',
      'Socket: No route to host',
      /^no route to 192\.0\.2\.2$/,
    ],
    [
      'Idle          Received: Bad peer AS',
      'Received: Bad peer AS',
      /expects another AS number than 64512/,
    ],
    [
      'Idle          BGP Error: Bad peer AS',
      'BGP Error: Bad peer AS',
      /^192\.0\.2\.2 has another AS number than 64512/,
    ],
    [
      'Idle          Error: Hold timer expired',
      'Error: Hold timer expired',
      /within the hold time/,
    ],
    [
      'Idle          Received: Administrative shutdown',
      'Received: Administrative shutdown',
      /closed the session: Administrative shutdown/,
    ],
    [
      'Active        Socket: Connection closed',
      'Socket: Connection closed',
      /^192\.0\.2\.2 closed the connection: it does not expect this host/,
    ],
    ['Connect       ', undefined, /^no answer from 192\.0\.2\.2: filtered, or a password there$/],
    ['Passive       ', undefined, /^waits for 192\.0\.2\.2, which connects to this host$/],
  ];
  for (const [info, lastError, why] of reasons)
    assert.match(whyOf(info, lastError) ?? '', why, info);
  assert.match(
    whyOf('Active        Socket: Connection refused', 'Socket: Connection refused', [
      '    Neighbor graceful restart active',
    ]) ?? '',
    /its routes are kept meanwhile$/,
  );
});

test('a peer that announces more than is taken from it is named', () => {
  const states = protocolStates(
    said('Established   ', [
      '  BGP state:          Established',
      '    Import limit:     3 [HIT]',
      '      Action:         block',
      '    Routes:         3 imported, 0 filtered, 4 exported, 3 preferred',
    ]),
  );
  assert.ok(
    bgpChecks(reportOf(model, states)).some(
      ({ ok, detail }) =>
        !ok && detail === '192.0.2.2 announces more than 3 routes; the others are not used',
    ),
  );
});

test('status fails while a session is down, names why, and says what has no effect', () => {
  const report = reportOf(model, protocolStates(said('Connect', [])));
  const [check] = bgpChecks(report);
  assert.equal(check?.ok, false);
  assert.match(
    check.detail,
    /^0 of 2 sessions established, router ID 192\.0\.2\.1; 192\.0\.2\.2: no answer/,
  );
  const broken = { ...report, problems: ['BGPPeer rack spec.asNumber: is missing'] };
  assert.ok(bgpChecks(broken).some(({ detail, ok }) => !ok && detail.startsWith('BGPPeer rack')));
  assert.deepEqual(bgpChecks({ ...report, isOn: false }), []);
});
