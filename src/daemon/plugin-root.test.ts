import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

const checkout = join(import.meta.dirname, '../..');

test("what the program reads below /etc is the host's in the managed plugin's root as well", () => {
  const build = readFileSync(join(checkout, 'plugin/build'), 'utf8');
  const linked = /for name in ([a-z -]+); do ln -s "\/host\/etc\/\$name"/
    .exec(build)?.[1]
    ?.split(' ');
  const sources = globSync('src/**/*.ts', { cwd: checkout }).filter(
    (file) => !/\.(test|fixture)\.ts$/.test(file),
  );
  const read = sources.flatMap((file) =>
    [...readFileSync(join(checkout, file), 'utf8').matchAll(/'\/etc\/([\w.-]+)/g)].map(
      ([, name]) => name,
    ),
  );
  assert.ok(read.includes('docker'));
  for (const name of new Set(read)) assert.ok(linked?.includes(name ?? ''), `/etc/${name}`);
});
