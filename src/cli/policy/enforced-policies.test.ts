import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { EntryValue } from '../../model/kinds/index.ts';
import { endpointAnnotations } from '../../model/kinds/workload-endpoint.ts';
import { startCommandLine, type CommandLine } from '../command-line.fixture.ts';

/** `policy ls` and `policy show` next to what is enforced. */

const words = (text: string) => text.split(' ');
const apiVersion = 'projectcalico.org/v3';

interface StoredContainer {
  readonly labels?: Record<string, string>;
  readonly profiles?: string[];
  readonly annotations?: Record<string, string>;
}

/** Stores an endpoint as the driver does. */
async function storeContainer(
  cli: CommandLine,
  name: string,
  { labels = {}, profiles = [], annotations = {} }: StoredContainer,
): Promise<void> {
  await cli.write((draft) =>
    draft.put('WorkloadEndpoint', `shop/${name}`, {
      kind: 'WorkloadEndpoint',
      apiVersion,
      metadata: {
        name,
        namespace: 'shop',
        labels: { 'projectcalico.org/namespace': 'shop', ...labels },
        annotations,
      },
      spec: {
        orchestrator: 'libnetwork',
        node: 'host-1',
        endpoint: name,
        workload: name,
        containerID: name.repeat(10),
        profiles,
        interfaceName: `cali${name}`,
      },
    }),
  );
}

/** Stores a policy without the defaults of `apply`. */
async function storePolicy(
  cli: CommandLine,
  name: string,
  spec: EntryValue<'GlobalNetworkPolicy'>['spec'],
): Promise<void> {
  const resource = { kind: 'GlobalNetworkPolicy', apiVersion, metadata: { name }, spec } as const;
  await cli.write((draft) => draft.put('GlobalNetworkPolicy', name, resource));
}

test('show names the containers that have a label from a Profile or a namespace, as they are selected', async () => {
  using cli = startCommandLine();
  const profiles = { first: { team: 'a' }, second: { team: 'b' }, 'kns.shop': { 'pcns.env': 'x' } };
  await cli.write((draft) => {
    for (const [name, labelsToApply] of Object.entries(profiles)) {
      const spec = { labelsToApply };
      draft.put('Profile', name, { kind: 'Profile', apiVersion, metadata: { name }, spec });
    }
  });
  await storeContainer(cli, 'one', { profiles: ['first', 'second', 'kns.shop'] });
  await storeContainer(cli, 'two', { profiles: ['second', 'first'] });
  await storeContainer(cli, 'own', { labels: { team: 'c', 'pcns.env': 'x' }, profiles: ['first'] });
  const quarantine = { [endpointAnnotations.quarantine]: 'Docker is unavailable' };
  await storeContainer(cli, 'new', { labels: { team: 'a' }, annotations: quarantine });
  const containers = async (spec: EntryValue<'GlobalNetworkPolicy'>['spec']) => {
    await storePolicy(cli, 'some', { types: ['Ingress'], ...spec });
    const shown = await cli.ok(words('policy show some'));
    return /^ {2}containers: (.*)$/m.exec(shown)?.[1];
  };
  assert.equal(await containers({ selector: "team == 'a'" }), 'one (1)', 'the first Profile wins');
  assert.equal(await containers({ selector: "team == 'b'" }), 'two (1)');
  assert.equal(await containers({ selector: "team == 'c'" }), 'own (1)', 'an own label wins');
  assert.equal(await containers({ namespaceSelector: "env == 'x'" }), 'one (1)');
  assert.equal(await containers({ namespaceSelector: "env == 'y'" }), 'none');
  assert.equal(await containers({ preDNAT: true, applyOnForward: true }), 'none', 'of hosts only');
});

test('policies of equal order are listed in the order of evaluation', async () => {
  using cli = startCommandLine();
  for (const name of ['web', 'web-a', 'b']) {
    await storePolicy(cli, name, { order: name === 'b' ? 2 : 1, selector: 'all()' });
  }
  const names = (await cli.ok(words('policy ls'))).split('\n').map((line) => line.split(' ')[0]);
  assert.deepEqual(names.slice(1, -1), ['web-a', 'web', 'b']);
});

test('a policy is shown with what it decides: both directions without types, and all if it cannot be enforced', async () => {
  using cli = startCommandLine();
  const rules = async (spec: EntryValue<'GlobalNetworkPolicy'>['spec']) => {
    await storePolicy(cli, 'some', { selector: 'all()', ...spec });
    const shown = (await cli.ok(words('policy show some'))).split('\n');
    return shown.slice(shown.findIndex((line) => line.startsWith('  inbound'))).join('\n');
  };
  assert.equal(
    await rules({ egress: [{ action: 'Allow' }] }),
    '  inbound:\n    after all policies of tier default: deny\n' +
      '  outbound:\n    1  allow\n    after all policies of tier default: deny\n',
  );
  assert.match(await cli.ok(words('policy ls')), /^some +default +0 rules +1 rule +all/m);
  assert.equal(
    await rules({ types: ['Egress'], egress: [{ action: 'Allow' }] }),
    '  inbound: not decided by this policy\n' +
      '  outbound:\n    1  allow\n    after all policies of tier default: deny\n',
  );
  assert.match(
    await rules({ types: ['Ingress'], selector: 'team ==', ingress: [{ action: 'Allow' }] }),
    /^ {2}inbound: all denied, because a selector is invalid: .*\n {2}outbound: not decided/,
  );
  assert.equal(
    await rules({ types: ['Ingress'], preDNAT: true, applyOnForward: true }),
    '  inbound:\n    after all policies of tier default: pass\n' +
      '  outbound: not decided by this policy\n',
  );
});
