import assert from 'node:assert/strict';
import { existsSync, globSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { test } from 'node:test';
import { retiredSettings, settingMeanings, settingsSchema } from '../../src/config/settings.ts';
import { clusterPaths } from '../../src/cluster/cluster-file.ts';
import { nodeAccess } from '../../src/cluster/roles.ts';
import {
  entryKinds,
  entryTypeOf,
  resourceKinds,
  resourceTypeOf,
} from '../../src/model/kinds/index.ts';
import { networkOptionKeys } from '../../src/driver/networks/network-options.ts';

/** Compares the documents with the program. */

const root = join(import.meta.dirname, '../..');
const read = (file: string) => readFileSync(join(root, file), 'utf8');
const documents = ['README.md', ...globSync('docs/**/*.md', { cwd: root })];

const settings = Object.values(settingsSchema.shape).map(
  (schema) => settingMeanings.get(schema) ?? assert.fail('a setting has no name'),
);

/** Returns the cells of the first table whose header begins with the given cell. */
function table(text: string, firstHeader: string): readonly (readonly string[])[] {
  const lines = text.split('\n');
  const start = lines.findIndex((line) => line.startsWith(`| ${firstHeader} |`));
  assert.ok(start >= 0, `there is no table of ${firstHeader}`);
  const rows = lines.slice(start + 2);
  const end = rows.findIndex((line) => !line.startsWith('|'));
  return rows.slice(0, end).map((line) =>
    line
      .split(/(?<!\\)\|/)
      .slice(1, -1)
      .map((cell) => cell.trim()),
  );
}

const quoted = (cell: string) => [...cell.matchAll(/`([^`]+)`/g)].map(([, text = '']) => text);

test('docs/settings.md lists every setting with its help, and no other', () => {
  assert.deepEqual(
    table(read('docs/settings.md'), 'name'),
    settings.map(({ name, help }) => [`\`${name}\``, help]),
  );
});

test('docs/from-libnetwork-plugin.md lists every setting of libnetwork-plugin', () => {
  const rows = table(read('docs/from-libnetwork-plugin.md'), 'setting');
  const documented = rows.flatMap(([name = '', , now = '']) =>
    quoted(name)
      .filter((one) => one.startsWith('CALICO_LIBNETWORK_'))
      .map((one) => [one, quoted(now)[0]] as const),
  );
  assert.deepEqual(
    new Map(documented),
    new Map<string, string | undefined>([
      ...settings.flatMap(({ name, formerName }) =>
        formerName === undefined ? [] : [[formerName, name] as const],
      ),
      ...[...retiredSettings.keys()].map((name) => [name, undefined] as const),
    ]),
  );
});

test('docs/networks.md lists every network option, and no other', () => {
  const rows = table(read('docs/networks.md'), 'key');
  assert.deepEqual(new Set(rows.map(([key = '']) => quoted(key)[0])), new Set(networkOptionKeys));
});

test('docs/cluster.md lists what a node of a cluster may write of every kind of data', () => {
  const rows = new Map(
    entryKinds.map((kind) => {
      const { label } = entryTypeOf[kind];
      const { writes, why } = nodeAccess(kind);
      assert.notEqual(why, '', `src/cluster/roles.ts must say what a node may write of ${kind}`);
      return [label, [label, writes, why]];
    }),
  );
  assert.deepEqual(table(read('docs/cluster.md'), 'data'), [...rows.values()]);
});

test('docs/cluster.md lists every file of a host of a cluster', () => {
  const { folder, etcd, ...files } = clusterPaths({ datastoreFile: '/var/lib/calico/calico.db' });
  const text = read('docs/cluster.md');
  assert.ok(text.includes(`\`${folder}\``) && etcd.startsWith(`${folder}/`));
  const listed = table(text, 'file').flatMap(([file = '']) => quoted(file));
  const own = Object.values(files).map((file) => file.slice(folder.length + 1));
  assert.deepEqual(new Set(listed), new Set([...own, 'etcd/etcd.yaml', 'etcd/data']));
});

test('docs/resources.md lists every kind of resource, and no other', () => {
  assert.deepEqual(
    table(read('docs/resources.md'), 'kind'),
    resourceKinds.map((kind) => {
      const { aliases, isNamespaced, meaning, isUnenforced } = resourceTypeOf[kind];
      const words = aliases.map((word) => `\`${word}\``).join(' ');
      return [
        `\`${kind}\``,
        words,
        isNamespaced ? 'yes' : 'no',
        isUnenforced ? 'no' : 'yes',
        meaning,
      ];
    }),
  );
});

/** Beginnings of quoted commands and of Docker's own messages. */
const notOurs = /^(docker|systemctl|plugin\/?\S*|calico-cnm) /;

test('the program prints every message that docs/troubleshooting.md quotes', () => {
  const sources = globSync('src/**/*.ts', { cwd: root, exclude: ['**/*.test.ts'] })
    .map(read)
    .join('\n');
  const symptoms = [...read('docs/troubleshooting.md').matchAll(/^\| (.*?) \|/gm)];
  const messages = symptoms
    .flatMap(([, symptom = '']) => quoted(symptom))
    .filter((text) => text.includes(' ') && !notOurs.test(text));
  assert.ok(messages.length > 3);
  for (const message of messages) {
    for (const part of message.split(/…|\bNAME\b/))
      assert.ok(sources.includes(part), `nothing prints "${part}"`);
  }
});

/** Anchors of headings, as GitHub derives them. */
function anchors(text: string): ReadonlySet<string> {
  const headings = text.match(/^#+ .*$/gm) ?? [];
  return new Set(
    headings.map((heading) =>
      heading
        .replace(/^#+ /, '')
        .toLowerCase()
        .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
        .replaceAll(' ', '-'),
    ),
  );
}

for (const document of documents) {
  test(`every link in ${document} has a target`, () => {
    for (const [, target = ''] of read(document).matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^[a-z]+:/.test(target)) continue;
      const [path = '', anchor] = target.split('#');
      const file = path === '' ? document : normalize(join(dirname(document), path));
      assert.ok(existsSync(join(root, file)), `${target}: there is no ${file}`);
      if (anchor !== undefined) assert.ok(anchors(read(file)).has(anchor), `${target}: no heading`);
    }
  });
}

test('every document that the source refers to exists', () => {
  for (const file of globSync('{src,test,bench}/**/*.ts', { cwd: root })) {
    for (const [document] of read(file).matchAll(/docs\/[a-z-]+\.md/g)) {
      assert.ok(existsSync(join(root, document)), `${file} speaks of ${document}`);
    }
  }
});

test('every source file that the documents name exists', () => {
  for (const document of documents) {
    for (const [, file = ''] of read(document).matchAll(/`((?:[a-z-]+\/)+[a-z0-9.-]+\.ts)`/g)) {
      const places = ['', 'src', 'src/agent'].map((folder) => join(root, folder, file));
      assert.ok(places.some(existsSync), `${document} names ${file}`);
    }
  }
});
