import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { printable } from '../../errors/printable.ts';
import { parseAddress } from '../../ip/address.ts';
import { hostCidr, parseCidr } from '../../ip/cidr.ts';
import { newBlock } from '../../ipam/records/block.ts';
import { assignInBlock, putBlock } from '../../ipam/records/records.ts';
import { endpointName } from '../../model/kinds/workload-endpoint.ts';
import { version } from '../../version.ts';
import { createLogger } from '../../telemetry/log.ts';
import { startCommandLine, type CommandLine } from '../command-line.fixture.ts';
import { formatStatus } from '../status-text.ts';
import { formatTable } from '../table.ts';

/** Commands accept the names that other commands print, and print names as typed. */

const containerId = 'c1'.repeat(32);

/** Container `app` on two networks, and an endpoint without a known container. */
async function endpoints(): Promise<CommandLine> {
  const cli = startCommandLine({ NODENAME: 'host-1' });
  await cli.ok(['profile', 'add', 'web']);
  await cli.write((draft) => {
    for (const [endpoint, workload] of [
      ['e1', 'app'],
      ['e2', 'app'],
      ['e3', undefined],
    ] as const) {
      const name = endpointName('host-1', endpoint);
      draft.put('WorkloadEndpoint', `libnetwork/${name}`, {
        kind: 'WorkloadEndpoint',
        apiVersion: 'projectcalico.org/v3',
        metadata: { name, namespace: 'libnetwork' },
        spec: {
          orchestrator: 'libnetwork',
          ...(workload === undefined ? {} : { workload, containerID: containerId }),
          node: 'host-1',
          endpoint,
          ipNetworks: [hostCidr(parseAddress(`10.65.0.${endpoint.slice(1)}`))],
          profiles: ['web'],
          interfaceName: `cali${endpoint}`,
        },
      });
    }
  });
  return cli;
}

const names = (yaml: string) => [...yaml.matchAll(/endpoint: (e\d)/g)].map(([, name]) => name);

test('--version and -v print the same as version', async () => {
  using cli = startCommandLine();
  for (const word of ['version', '--version', '-v']) {
    assert.deepEqual(await cli.run([word]), {
      status: 0,
      out: `calico-cnm ${version}\n`,
      error: '',
    });
  }
});

test('get accepts the values of its column CONTAINER, container IDs and resource names', async () => {
  using cli = await endpoints();
  const shown = await cli.ok(['get', 'wep']);
  assert.match(shown, /^app +host-1/m);
  const title = /^(endpoint e3) /m.exec(shown)?.[1] ?? assert.fail(shown);
  const resource = endpointName('host-1', 'e2');
  for (const [typed, found] of [
    ['app', ['e1', 'e2']],
    [containerId.slice(0, 12), ['e1', 'e2']],
    [title, ['e3']],
    [resource, ['e2']],
    [`libnetwork/${resource}`, ['e2']],
  ] as const) {
    assert.deepEqual(names(await cli.ok(['get', 'wep', typed, '-o', 'yaml'])), found, typed);
    if (!typed.startsWith('endpoint')) assert.match(await cli.ok(['container', typed]), /^app /m);
    await cli.ok(['ports', typed]);
  }
  const both = await cli.ok(['get', 'wep', 'app', resource, '-o', 'yaml']);
  assert.deepEqual(names(both), ['e1', 'e2']);
  for (const wrong of ['nosuch', 'ap', containerId.slice(0, 11)]) {
    const { status, error } = await cli.run(['get', 'wep', wrong]);
    assert.deepEqual(
      [status, error],
      [1, `calico-cnm: WorkloadEndpoint ${wrong} does not exist\n`],
    );
  }
});

test('delete accepts the same names', async () => {
  using cli = await endpoints();
  const deleted = await cli.ok(['delete', 'wep', 'app']);
  assert.match(deleted, /^(WorkloadEndpoint libnetwork\/host--1-\S+-e[12] deleted\n){2}$/);
  await cli.ok(['delete', 'wep', 'endpoint e3']);
  assert.equal((await cli.ok(['get', 'wep'])).split('\n').length, 2);
  const { status, error } = await cli.run(['delete', 'wep', 'app']);
  assert.deepEqual([status, error], [1, 'calico-cnm: WorkloadEndpoint app does not exist\n']);
});

test('ipam release needs exactly one of an address and --ip', async () => {
  using cli = startCommandLine();
  const held = () =>
    cli.write((draft) => {
      const address = parseAddress('10.99.0.5');
      const block = newBlock(parseCidr('10.99.0.0/26'), 'host-1', new Date(0));
      putBlock(draft, block);
      assignInBlock(draft, block, { address, holder: { handle_id: 'h' } });
    });
  for (const argv of [['10.99.0.5'], ['--ip', '10.99.0.5'], ['--ip=10.99.0.5']]) {
    await held();
    assert.equal(await cli.ok(['ipam', 'release', ...argv]), '10.99.0.5 released\n');
  }
  for (const argv of [[], ['10.99.0.5', '--ip', '10.99.0.5']]) {
    const { status, error } = await cli.run(['ipam', 'release', ...argv]);
    assert.equal(status, 1);
    assert.match(error, /^calico-cnm: ipam release: needs one address: .*\n$/);
  }
});

test('the error of an inbound or outbound rule uses these terms', async () => {
  using cli = await endpoints();
  await cli.ok(['profile', 'add', 'My_App']);
  for (const direction of ['inbound', 'outbound']) {
    const argv = ['profile', 'My_App', 'rule', 'add', direction, 'allow'];
    const rule = [...argv, 'to', 'ports', '80'];
    const { status, error } = await cli.run(rule);
    assert.equal(status, 1);
    assert.match(
      error,
      new RegExp(`^calico-cnm: Profile My_App: ${direction} rule \\d+: `),
      'Docker name and word as they were typed',
    );
  }
});

/** All but the newline. */
const acts = /(?!\n)[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}]/u;

/** Characters that Docker allows in network names and a terminal interprets. */
const nasty = 'a\nFAIL  all\r\t\u001b[31mred\u009b1m\u202Eevil\u2028';

test('special characters in names are escaped, so that a row stays one line', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (text) => {
      const table = formatTable(['a', 'b'], [[text + nasty, 'x']]);
      assert.equal(table.split('\n').length, 3);
      assert.doesNotMatch(table, acts);
      const lines: string[] = [];
      createLogger({
        level: 'info',
        write: (line) => lines.push(line),
        now: () => new Date(0),
      }).info('event', { name: text + nasty, other: '\u009b1m' });
      assert.match(lines.join(''), /^[^\n]*\n$/);
      assert.doesNotMatch(lines.join(''), acts);
      assert.equal(printable(printable(text)), printable(text));
    }),
  );
  const check = { name: 'networks', ok: false, detail: nasty, remedy: nasty };
  const status = formatStatus({
    version,
    node: 'host-1',
    startedAt: '2026-01-01T00:00:00Z',
    checks: [check],
    networks: [
      {
        name: nasty,
        id: '',
        subnets: [],
        ranges: [],
        nextHops: [],
        profiles: [nasty],
        endpoints: 0,
      },
    ],
    endpoints: [],
    pools: [],
    drops: [],
    reachedByBgp: [],
    lastError: { at: '', what: nasty, remedy: nasty },
  });
  assert.doesNotMatch(status, acts);
  assert.doesNotMatch(status, /^ *FAIL {2}all/m);
});

test('a Profile with such a name is shown on one line, and its error is one line', async () => {
  using cli = startCommandLine();
  await cli.ok(['profile', 'add', nasty]);
  for (const argv of [['profile'], ['profile', nasty], ['profile', 'show', '--detailed']]) {
    const shown = await cli.ok(argv);
    assert.match(shown, /a\\nFAIL {2}all\\r\\t\\u001b\[31mred/);
    assert.doesNotMatch(shown, acts);
    assert.doesNotMatch(shown, /^FAIL/m);
  }
  const { error } = await cli.run(['profile', 'add', nasty]);
  assert.match(error, /^[^\n]+\n$/);
  assert.doesNotMatch(error, acts);
});
