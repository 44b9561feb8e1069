import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { SavedHostRules as Saved } from '../../dataplane/host-rules-file.ts';
import type { HostInterface } from '../../dataplane/host-addresses.ts';
import { parseAddress } from '../../ip/address.ts';
import type { HostEndpoint } from '../../model/kinds/host-endpoint.ts';
import type { Failsafes, GuardedStages } from '../../ruleset/host-endpoint.ts';
import { HostEndpointsManager } from './host-endpoints.ts';
import { SavedHostRules } from './saved-host-rules.ts';

function lab() {
  const unreadable = new Map<string, { why: string; text: string; modRevision: bigint }>();
  let interfaces: readonly HostInterface[] = [];
  let covered: ReadonlyMap<string, string> = new Map();
  let failsafes: Failsafes | undefined;
  const endpoints = new Map<string, HostEndpoint>();
  const manager = new HostEndpointsManager(
    {
      node: 'here',
      mirror: {
        unreadable: (_, id) => unreadable.get(id),
        allUnreadable: () => unreadable,
      },
      kernel: {
        addresses: { byInterface: () => interfaces },
        dockerPorts: () => [2376],
      },
    },
    {
      setHostEndpoint: (id, endpoint) => {
        if (endpoint === undefined) endpoints.delete(id);
        else endpoints.set(id, endpoint);
      },
      setCoveredInterfaces: (now) => (covered = now),
      setFailsafes: (now) => (failsafes = now),
      hostTiersOf: () => assert.fail(),
    },
  );
  const tell = (id: string, spec: HostEndpoint['spec'] | undefined) => {
    const value: HostEndpoint | undefined = spec && {
      kind: 'HostEndpoint',
      apiVersion: 'projectcalico.org/v3',
      metadata: { name: id },
      spec: { node: 'here', ...spec },
    };
    const now = value && { id, value, modRevision: 1n };
    manager.onChange({ kind: 'HostEndpoint', id, before: undefined, now });
  };
  return {
    manager,
    tell,
    unreadable,
    endpoints,
    covered: () => Object.fromEntries(covered),
    failsafes: () => failsafes,
    set: (now: readonly HostInterface[]) => (interfaces = now),
    checks: () => manager.checks().map(({ name, ok, detail }) => `${name} ${ok}: ${detail}`),
  };
}

test('host endpoints of this host cover interfaces, also those that get an address later', () => {
  const { manager, tell, covered, set, checks, failsafes } = lab();
  tell('there', { node: 'there', interfaceName: 'eth0' });
  assert.deepEqual(covered(), {});
  assert.deepEqual(checks(), []);
  tell('all', { interfaceName: '*' });
  tell('lan', { expectedIPs: ['192.0.2.1'] });
  assert.deepEqual(covered(), { '*': 'all' });
  assert.ok(failsafes()?.inbound.some(({ port }) => port === 2376));
  set([
    { name: 'eth1', addresses: [parseAddress('192.0.2.1')] },
    { name: 'lo', addresses: [] },
  ]);
  assert.ok(
    manager.onEvent({
      kind: 'address',
      isGone: false,
      address: { linkIndex: 2, address: parseAddress('192.0.2.1'), prefixLength: 24 },
    }),
  );
  manager.apply('reading');
  assert.deepEqual(covered(), { '*': 'all', eth1: 'lan' });
  assert.deepEqual(checks(), [
    'HostEndpoint all true: covers no interface, and interfaces created later',
    'HostEndpoint lan true: covers eth1',
  ]);
  tell('lan', undefined);
  tell('all', undefined);
  assert.deepEqual(covered(), {});
});

test('an invalid host endpoint covers what can be read of it, without policy; without a node it is nowhere', () => {
  const { manager, tell, unreadable, covered, checks, endpoints, set } = lab();
  set([{ name: 'eth0', addresses: [] }]);
  tell('a', { interfaceName: 'eth0', profiles: ['open'] });
  const put = (spec: unknown, modRevision: bigint) => {
    unreadable.set('a', { why: 'it is odd', text: JSON.stringify({ spec }), modRevision });
    manager.apply('reading');
  };
  put({ node: 'here', interfaceName: 'eth0', profiles: 3 }, 2n);
  assert.deepEqual(covered(), { eth0: 'a' });
  assert.equal(endpoints.get('a')?.spec.profiles, undefined);
  assert.deepEqual(checks(), [
    'HostEndpoint a false: it is invalid: it is odd; it denies new connections on eth0, except failsafe ports',
  ]);
  put({ node: 'here', interfaceName: 3 }, 3n);
  assert.deepEqual(covered(), { '*': 'a' });
  put({ node: 'here' }, 4n);
  assert.deepEqual(covered(), { '*': 'a' });
  put({ node: 3 }, 5n);
  assert.deepEqual(covered(), {});
  put({ node: 'here', interfaceName: 'eth0' }, 6n);
  unreadable.clear();
  manager.apply('reading');
  assert.deepEqual(covered(), {}, 'it was deleted');
});

test('the rules of host endpoints are kept in a file while there are any', () => {
  const folder = mkdtempSync(join(tmpdir(), 'host-rules-'));
  const file = join(folder, 'host-rules.json');
  let stages: GuardedStages | undefined;
  let saved: Saved = { backend: 'nft', sets: [], scripts: [] };
  const open = () => {
    const deps = { kernel: { savedHostRules: () => saved }, hostRulesFile: file };
    const made = new SavedHostRules(deps, () => stages);
    made.start();
    return made;
  };
  try {
    const first = open();
    first.apply('routes');
    assert.ok(!existsSync(file));
    stages = { isForwarded: false, isPreDnat: false, isUntracked: false };
    first.apply('routes');
    assert.deepEqual(JSON.parse(readFileSync(file, 'utf8')), saved);
    saved = { ...saved, backend: 'legacy' };
    first.apply('tables');
    first.apply('routes');
    first.stop();
    assert.match(readFileSync(file, 'utf8'), /legacy/);
    stages = undefined;
    open().apply('routes');
    assert.ok(!existsSync(file), 'no host endpoint is left');
  } finally {
    rmSync(folder, { recursive: true });
  }
});
