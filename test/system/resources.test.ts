import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { cp, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { z } from 'zod';
import { startCommandLine } from '../../src/cli/command-line.fixture.ts';
import { live, resourceLives } from '../../src/cli/resources/resource-lives.fixture.ts';
import { withStore } from '../../src/cli/store.ts';
import { resourceRoot } from '../../src/model/resource-type.ts';
import { checkout } from '../lab/built.ts';
import { startEtcd, type Etcd } from '../lab/etcd.ts';

const run = promisify(execFile);

describe('resources in etcd', () => {
  let etcd: Etcd;
  before(async () => {
    etcd = await startEtcd();
  });
  after(() => etcd[Symbol.asyncDispose]());

  for (const life of resourceLives) {
    test(`${life.kind} is created, shown, applied again and deleted; its key and value are Calico's`, async () => {
      using cli = startCommandLine({ ETCD_ENDPOINTS: etcd.endpoint });
      const stored = (key: string) =>
        Promise.resolve(etcd.etcdctl('get', '--print-value-only', resourceRoot + key));
      await live(life, { ok: (argv, input) => cli.ok(argv, input), stored });
    });
  }

  test('what calicoctl has written is shown as it is, and stays but for what an edit changes', async () => {
    using cli = startCommandLine({ ETCD_ENDPOINTS: etcd.endpoint });
    const key = `${resourceRoot}networkpolicies/shop/default.web`;
    const metadata =
      '"name":"default.web","namespace":"shop","uid":"6b1f5a4e-9a0e-4a41-8a57-0c6b2d8b0b52","creationTimestamp":"2026-08-22T10:00:00Z"';
    const spec =
      '"tier":"default","order":1.5,"ingress":[{"action":"Allow","source":{},"destination":{}}],"selector":"all()","types":["Ingress"],"ofTomorrow":{"a":[null,12345678901234567890]}';
    etcd.etcdctl(
      'put',
      key,
      `{"kind":"NetworkPolicy","apiVersion":"projectcalico.org/v3","metadata":{${metadata}},"spec":{${spec}}}`,
    );
    assert.match(
      await cli.ok(['get', 'np']),
      /^NAMESPACE +NAME +TIER +ORDER +SELECTOR\nshop +web +default +1\.5 +all\(\)\n$/,
    );
    await withStore({ kind: 'etcd', endpoints: [etcd.endpoint] }, ({ write }) =>
      write((draft) => {
        const policy = draft.get('NetworkPolicy', 'shop/default.web');
        assert.ok(policy);
        const spec = { ...policy.spec, order: 2 };
        draft.put('NetworkPolicy', 'shop/default.web', { ...policy, spec });
      }),
    );
    assert.equal(
      etcd.etcdctl('get', '--print-value-only', key).trim(),
      `{"kind":"NetworkPolicy","apiVersion":"projectcalico.org/v3","metadata":{${metadata}},"spec":{${spec.replace('1.5', '2')}}}`,
    );
  });
});

const madeUp = `
import { z } from 'zod';
import { resource } from '../fields.ts';
import { nameColumn, namespaceColumn, resourceType, type ResourceType } from '../resource-type.ts';

const lantern = resource('Lantern', z.looseObject({ color: z.exactOptional(z.string()), watts: z.int() }));

export type Lantern = z.infer<typeof lantern>;

export const lanternType: ResourceType<Lantern> = resourceType({
  kind: 'Lantern',
  plural: 'lanterns',
  aliases: ['lamp'],
  meaning: 'a light',
  isNamespaced: true,
  isUnenforced: true,
  schema: lantern,
  columns: [namespaceColumn, nameColumn, { header: 'color', cell: ({ spec }) => spec.color ?? '' }],
  withDefaults: (one) => ({ ...one, spec: { color: 'white', ...one.spec } }),
  validate: ({ spec }, stored) =>
    stored.get('IPPool', 'dark') === undefined && spec.watts > 100
      ? { field: 'spec.watts', why: 'must not blind anybody' }
      : undefined,
});
`;

/** Runs commands one after the other on one datastore; prints what each said. */
const runCommands = `
import { startCommandLine } from './src/cli/command-line.fixture.ts';
using cli = startCommandLine();
const said: string[] = [];
for (const [argv, input] of JSON.parse(process.argv[2] ?? '')) {
  const { out, error } = await cli.run(argv, input);
  said.push(out + error);
}
console.log(JSON.stringify(said));
`;

describe('a new kind', () => {
  let folder = '';
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'calico-kind-'));
    for (const name of ['src', 'test', 'bench', 'plugin', 'package.json', 'tsconfig.json']) {
      await cp(join(checkout, name), join(folder, name), { recursive: true });
    }
    await symlink(join(checkout, 'node_modules'), join(folder, 'node_modules'));
    const kinds = join(folder, 'src/model/kinds');
    await writeFile(join(kinds, 'lantern.ts'), madeUp);
    const list = await readFile(join(kinds, 'index.ts'), 'utf8');
    const added = list
      .replace('\n/**', "import { lanternType } from './lantern.ts';\n\n/**")
      .replace('  OtherResource:', '  Lantern: lanternType,\n  OtherResource:');
    assert.equal(added.split('\n').length, list.split('\n').length + 2);
    await writeFile(join(kinds, 'index.ts'), added);
  });
  after(() => rm(folder, { recursive: true }));

  const node = join(checkout, 'node_modules/.bin/node');

  test('is one file and its place in the list: nothing else of the program must know it to compile', async () => {
    const tsc = join(checkout, 'node_modules/.bin/tsc');
    const { stdout } = await run(tsc, ['--noEmit', '-p', folder]).catch((error: unknown) => {
      const said = error instanceof Error && 'stdout' in error ? String(error.stdout) : '';
      return { stdout: `${said}\n${String(error)}` };
    });
    assert.equal(stdout, '');
  });

  test('is applied, checked, shown, found by its words and deleted like any other', async () => {
    const apply = (spec: string) => [
      ['apply', '-f', '-'],
      `apiVersion: projectcalico.org/v3\nkind: Lantern\nmetadata: {name: a}\nspec: ${spec}\n`,
    ];
    const commands = [
      apply('{watts: 40}'),
      apply('{watts: 400}'),
      apply('{wats: 4}'),
      [['get', 'lamps']],
      [['get', '--help']],
      [['get', 'pod']],
      [['delete', 'LANTERN', 'a']],
      [['get', 'lanterns']],
    ];
    const script = join(folder, 'commands.ts');
    await writeFile(script, runCommands);
    const { stdout } = await run(node, [script, JSON.stringify(commands)]);
    const [created, refused, mistyped, table, help, unknown, deleted, empty] = z
      .array(z.string())
      .parse(JSON.parse(stdout));
    assert.equal(
      created,
      'Lantern default/a created\nnote: Lantern is stored but has no effect on this host\n',
    );
    assert.equal(refused, 'calico-cnm: Lantern a: spec.watts: must not blind anybody\n');
    assert.equal(
      mistyped,
      'calico-cnm: Lantern a: spec.wats: is not a field; there are color, watts\n',
    );
    assert.equal(table, 'NAMESPACE   NAME   COLOR\ndefault     a      white\n');
    assert.match(help ?? '', /\blantern\b/);
    assert.match(unknown ?? '', /known: .*\bLantern\b/);
    assert.equal(deleted, 'Lantern default/a deleted\n');
    assert.equal(empty, 'NAMESPACE   NAME   COLOR\n');
  });
});
