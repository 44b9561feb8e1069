import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parse } from 'yaml';
import { z } from 'zod';
import { startCommandLine, type CommandLine } from '../command-line.fixture.ts';
import { policyName } from './compose.ts';

const words = (text: string) => text.split(' ');
const toDb = words('policy allow --to service=db --from service=app --port 5432');
const named = 'allow-service-app-to-service-db-tcp-5432';

async function stored(cli: CommandLine): Promise<readonly unknown[]> {
  return cli.write((draft) =>
    (['Tier', 'GlobalNetworkPolicy', 'GlobalNetworkSet'] as const).flatMap((kind) => [
      ...draft.entries(kind),
    ]),
  );
}

test('a command that is run again changes nothing, however its options are written', async () => {
  using cli = startCommandLine();
  await cli.ok(toDb);
  const before = await stored(cli);
  const again = words('policy allow --from service=app --port 5432/tcp --direction inbound');
  for (const command of [toDb, [...again, '--to', 'service=db']]) {
    assert.match(
      await cli.ok(command),
      new RegExp(`^GlobalNetworkPolicy ${named} unchanged$`, 'm'),
    );
    assert.deepEqual(await stored(cli), before);
  }
});

test('-o yaml and --dry-run write nothing; the YAML is what the command applies', async () => {
  using cli = startCommandLine();
  for (const command of [toDb, words('policy deny --from service=a --to 10.0.0.0/8,fd00::/8')]) {
    const before = await stored(cli);
    const yaml = await cli.ok([...command, '-o', 'yaml']);
    assert.ok((await cli.ok([...command, '--dry-run'])).startsWith(yaml));
    assert.deepEqual(await stored(cli), before);
    assert.ok((await cli.ok(command)).startsWith(yaml));
    const written = await stored(cli);
    const applied = await cli.ok(['apply', '-f', '-'], yaml);
    assert.doesNotMatch(applied, / (created|changed)$/m, 'it has been written as printed');
    assert.match(applied, /unchanged/);
    assert.deepEqual(await stored(cli), written);
  }
});

test('both directions are the same as a command for each', async () => {
  using cli = startCommandLine();
  const command = words('policy allow --from service=My_App --to service=db');
  await cli.ok(command);
  const said = await cli.ok([...command, '--direction', 'both']);
  const results = said
    .split('\n')
    .filter((line) => /^Global.* (created|changed|unchanged)$/.test(line));
  assert.deepEqual(
    results.map((line) => line.replace(/-[0-9a-f]{8}/, '')),
    [
      'GlobalNetworkPolicy allow-service-my-app-to-service-db unchanged',
      'GlobalNetworkPolicy allow-service-my-app-to-service-db-outbound created',
    ],
  );
  assert.match(await cli.ok([...command, '--direction', 'outbound']), /outbound unchanged$/m);
});

test('a policy, a network set or a tier of the user is never replaced', async () => {
  using cli = startCommandLine();
  const apply = (kind: string, name: string, spec: object) =>
    cli.ok(
      ['apply', '-f', '-'],
      JSON.stringify({ apiVersion: 'projectcalico.org/v3', kind, metadata: { name }, spec }),
    );
  await apply('GlobalNetworkPolicy', named, { selector: 'all()' });
  await apply('Tier', 'deny', { order: 5, defaultAction: 'Deny' });
  const before = await stored(cli);
  for (const [command, message] of [
    [
      toDb,
      `GlobalNetworkPolicy ${named} already exists, and calico-cnm policy did not create it; choose another name, or delete it: calico-cnm delete gnp ${named}`,
    ],
    [
      words('policy deny --from service=a'),
      'Tier deny already exists, and calico-cnm policy did not create it; choose another name, or delete it: calico-cnm delete tier deny',
    ],
  ] as const) {
    const error = `calico-cnm: ${message}\n`;
    assert.deepEqual(await cli.run(command), { status: 1, out: '', error });
    assert.deepEqual(await stored(cli), before);
  }
  await apply('Tier', 'deny', { order: 5, defaultAction: 'Pass' });
  assert.doesNotMatch(await cli.ok(words('policy deny --from service=a')), /Tier/);
  assert.match(await cli.ok(words('get tier deny -o yaml')), /order: 5\n/, 'it is used as it is');
  await cli.ok(words('policy rm deny.service-a-to-any'));
  await cli.ok(words('get tier deny'));
});

test('commands whose names are equal are told apart, and a chosen name is replaced', async () => {
  using cli = startCommandLine();
  await cli.ok(words('policy isolate project=a,service=b'));
  const other = await cli.run(words('policy isolate project=a-service-b'));
  assert.equal(
    other.error,
    'calico-cnm: GlobalNetworkPolicy isolate-project-a-service-b already exists with other rules (calico-cnm policy isolate project=a,service=b); choose another name with --name\n',
  );
  await cli.ok(words('policy isolate project=a-service-b --name mine'));
  assert.match(await cli.ok(words('policy isolate project=c --name mine')), /mine changed$/m);
});

test('rm removes everything that its command created, and nothing else', async () => {
  using cli = startCommandLine();
  await cli.ok([...toDb, '--direction', 'both']);
  await cli.ok(words('policy isolate project=shop'));
  await cli.ok(words('policy deny --from service=a'));
  await cli.ok(words('policy deny --from service=b'));
  const rm = (name: string) => cli.ok(['policy', 'rm', name]);
  assert.equal(await rm(named), `GlobalNetworkPolicy ${named} deleted\n`);
  assert.equal(await rm(`${named}-outbound`), `GlobalNetworkPolicy ${named}-outbound deleted\n`);
  assert.equal(
    await rm('deny.service-a-to-any'),
    'GlobalNetworkPolicy deny.service-a-to-any deleted\n',
  );
  assert.equal(
    await rm('deny.service-b-to-any'),
    'GlobalNetworkPolicy deny.service-b-to-any deleted\nTier deny deleted\n',
  );
  assert.match(await cli.ok(words('policy ls')), /\nisolate-project-shop [^\n]*\n$/);
});

const policy = z.looseObject({
  metadata: z.looseObject({ name: z.string() }),
  spec: z.looseObject({
    selector: z.string(),
    types: z.array(z.string()),
    ingress: z.array(z.unknown()).optional(),
    egress: z.array(z.unknown()).optional(),
  }),
});

async function composed(cli: CommandLine, command: string) {
  const yaml = await cli.ok([...words(command), '-o', 'yaml']);
  return yaml.split('---\n').flatMap((text) => policy.safeParse(parse(text)).data ?? []);
}

test('labels of Docker have short keys; values are those of endpoints', async () => {
  using cli = startCommandLine();
  for (const [end, selector] of [
    ['service=db', "com.docker.compose.service == 'db'"],
    [
      'project=shop,service!=db',
      "com.docker.compose.project == 'shop' && com.docker.compose.service != 'db'",
    ],
    ['network=My_Net', "com.docker.network.name == 'My_Net'"],
    ['name=-x-', "com.docker.container.name == 'x---2dx-2d'"],
    ['container=web.1', "com.docker.container.name == 'web.1'"],
    ['namespace=shop', "projectcalico.org/namespace == 'shop'"],
    ['tag=My.Net', 'has(My.Net)'],
    ['team=a', "team == 'a'"],
    ['label=service=a', "service == 'a'"],
    ['com.docker.compose.service=db', "com.docker.compose.service == 'db'"],
    ['all', 'has(projectcalico.org/namespace)'],
    ['has(role)', 'has(role)'],
  ] as const) {
    const [made] = await composed(cli, `policy allow --to ${end}`);
    assert.equal(made?.spec.selector, selector, end);
  }
  const [several] = await composed(cli, 'policy allow --to service=a --to service=b --network n');
  assert.equal(
    several?.spec.selector,
    "((com.docker.compose.service == 'a') || (com.docker.compose.service == 'b')) && com.docker.network.name == 'n'",
  );
});

test('the direction follows from the containers, unless it is given', async () => {
  using cli = startCommandLine();
  for (const [command, types] of [
    ['--to service=db --from service=app', ['Ingress']],
    ['--to service=db', ['Ingress']],
    ['--from service=app', ['Egress']],
    ['--from service=app --to any', ['Egress']],
    ['--from service=app --to 10.0.0.0/8', ['Egress']],
    ['--from 10.0.0.0/8 --to service=db', ['Ingress']],
    ['--to service=db --from service=app --direction outbound', ['Egress']],
    ['--to service=db --from service=app --direction both', ['Ingress', 'Egress']],
  ] as const) {
    const made = await composed(cli, `policy allow ${command}`);
    assert.deepEqual(
      made.flatMap(({ spec }) => spec.types),
      types,
      command,
    );
  }
});

test('every combination of options that is accepted makes policies that apply accepts', async () => {
  using cli = startCommandLine();
  const end = fc.constantFrom(
    'service=db',
    'project=shop,service=web',
    '10.0.0.0/8,fd00::/8',
    '192.0.2.7',
    'all',
    'any',
    'tag=web',
  );
  const option = (name: string, value: fc.Arbitrary<string>) =>
    fc.option(
      value.map((text) => [name, text]),
      { nil: [] },
    );
  const command = fc.tuple(
    fc.constantFrom('allow', 'deny'),
    option('--from', end),
    option('--to', end),
    fc.oneof(
      option('--port', fc.constantFrom('80', '53/udp,53/tcp', '1-65535', 'http', '80,http')),
      option('--proto', fc.constantFrom('tcp', 'udp,sctp', 'icmp', 'icmpv6', '47')),
      option('--icmp', fc.constantFrom('8', '3/4')),
      fc.constant(['--port', '53', '--proto', 'tcp,udp']),
      fc.constant(['--icmp', '128', '--proto', 'icmpv6']),
    ),
    option('--direction', fc.constantFrom('inbound', 'both')),
    option('--network', fc.constantFrom('web', 'My_Net')),
  );
  let accepted = 0;
  await fc.assert(
    fc.asyncProperty(command, async ([verb, ...options]) => {
      const { status, out, error } = await cli.run([
        'policy',
        verb,
        ...options.flat(),
        '-o',
        'yaml',
      ]);
      if (status !== 0) {
        assert.match(error, /^calico-cnm: (--|policy (allow|deny): needs)[^\n]*\n$/);
        return;
      }
      accepted++;
      for (const document of out.split('---\n')) {
        const { metadata } = z
          .object({ metadata: z.object({ name: z.string() }) })
          .parse(parse(document));
        assert.match(metadata.name, /^[a-z0-9.-]+$/);
      }
      await cli.ok(['apply', '-f', '-'], out);
    }),
    { numRuns: 150 },
  );
  assert.ok(accepted > 10, `${accepted} of the commands were accepted`);
});

test('names are legal and deterministic, and differ where letters had to be replaced', () => {
  const part = fc.string({ minLength: 1, maxLength: 40 });
  fc.assert(
    fc.property(part, part, (a, b) => {
      const [one, two] = [policyName([a, 'to'], [a]), policyName([b, 'to'], [b])];
      assert.match(one, /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/);
      assert.equal(one, policyName([a, 'to'], [a]));
      const isPlain = (text: string) => /^[a-z0-9]+$/.test(text);
      if (a !== b && !(isPlain(a) && isPlain(b))) assert.notEqual(one, two);
    }),
  );
});

test('a label that containers do not have by CALICO_LABELS is named', async () => {
  using cli = startCommandLine();
  const note = /^note: label (\S+) is not in CALICO_LABELS/gm;
  const labels = async (command: string, other: CommandLine = cli) =>
    [...(await other.ok([...words(command), '--dry-run'])).matchAll(note)].map(([, key]) => key);
  assert.deepEqual(await labels('policy allow --to service=db --from name=a'), []);
  assert.deepEqual(await labels('policy allow --to team=a --from role!=b'), ['team', 'role']);
  assert.deepEqual(await labels('policy allow --to tag=web --from namespace=shop'), []);
  using all = startCommandLine({ CALICO_LABELS: 'team' });
  assert.deepEqual(await labels('policy allow --to team=a --from service=b', all), [
    'com.docker.compose.service',
  ]);
  await cli.ok(
    ['apply', '-f', '-'],
    'apiVersion: projectcalico.org/v3\nkind: GlobalNetworkSet\nmetadata: {name: s, labels: {set: bad}}\nspec: {nets: []}\n',
  );
  assert.deepEqual(await labels('policy deny --to service=db --from set=bad'), []);
});

test('a rule in which the domain names of a network set have no effect is named, whichever is written first', async () => {
  using cli = startCommandLine();
  const set = (name: string, label: string, domains: readonly string[]) => ({
    apiVersion: 'projectcalico.org/v3',
    kind: 'GlobalNetworkSet',
    metadata: { name, labels: { set: label } },
    spec: { nets: ['192.0.2.0/24'], allowedEgressDomains: domains },
  });
  const api = JSON.stringify(set('api', 'api', ['api.example.com']));
  await cli.ok(['apply', '-f', '-'], JSON.stringify(set('nets', 'nets', [])));
  assert.doesNotMatch(await cli.ok(['apply', '-f', '-'], api), /note/);
  const noEffect = (policy: string, rules: string) =>
    `note: GlobalNetworkPolicy ${policy}: domain names of GlobalNetworkSet api have no effect in ${rules}: they count for destinations of outbound Allow rules only\n`;
  const denied = words('policy deny --from service=app --to set=api --direction outbound');
  const deniedNote = noEffect('deny.service-app-to-set-api-outbound', 'outbound rule 1');
  assert.ok((await cli.ok(denied)).includes(deniedNote));
  assert.ok(
    (await cli.ok(words('policy show deny.service-app-to-set-api-outbound'))).endsWith(
      `  ${deniedNote}`,
    ),
  );
  const allowed = await cli.ok(words('policy allow --from set=api --to service=db'));
  assert.ok(allowed.includes(noEffect('allow-set-api-to-service-db', 'inbound rule 1')));
  for (const command of [
    'policy allow --from service=app --to set=api --direction outbound',
    'policy allow --from set=nets --to service=db',
    'policy allow --from all --to service=db',
  ])
    assert.doesNotMatch(await cli.ok(words(command)), /domain names/, command);
  const spec = {
    selector: 'all()',
    egress: [
      { action: 'Allow', destination: { selector: "set == 'api'", notSelector: "set == 'api'" } },
      { action: 'Allow', destination: { notSelector: "set == 'api'" } },
      { action: 'Pass', destination: { selector: 'all()' }, source: { selector: "set == 'api'" } },
      { action: 'Deny', destination: { selector: 'has(set)' } },
    ],
  };
  const negated = {
    apiVersion: 'projectcalico.org/v3',
    kind: 'GlobalNetworkPolicy',
    metadata: { name: 'not' },
    spec,
  };
  const applied = await cli.ok(['apply', '-f', '-'], JSON.stringify(negated));
  assert.ok(applied.endsWith(noEffect('not', 'outbound rule 2, outbound rule 3, outbound rule 4')));
  for (const [namespaceSelector, isNamed] of [
    ['global()', true],
    ['all()', false],
  ] as const) {
    const egress = [{ action: 'Deny', destination: { selector: 'has(set)', namespaceSelector } }];
    const one = { ...negated, metadata: { name: 'one' }, spec: { selector: 'all()', egress } };
    const said = await cli.ok(['apply', '-f', '-'], JSON.stringify(one));
    assert.equal(said.includes(noEffect('one', 'outbound rule 1')), isNamed, namespaceSelector);
  }
  const again = await cli.ok(['apply', '-f', '-'], api);
  assert.equal(again.match(/^note: .*domain names of GlobalNetworkSet api/gm)?.length, 3);
});
