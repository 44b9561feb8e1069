import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { z } from 'zod';
import { settingMeanings, settingsSchema } from './settings.ts';

const manifest = z
  .object({
    env: z.array(
      z.object({
        name: z.string(),
        description: z.string(),
        settable: z.array(z.string()).nullable(),
      }),
    ),
  })
  .parse(JSON.parse(readFileSync('config.json', 'utf8')));

/** A path on the host: in the managed plugin it is the manifest that says where the host's is. */
const placesOnly = new Set([
  'CALICO_DATASTORE_FILE',
  'CALICO_NODENAME_FILE',
  'CALICO_SNAPSHOT_FILE',
]);

test('the manifest of the managed plugin offers every setting, and no other', () => {
  const known = Object.values(settingsSchema.shape).map(
    (schema) => settingMeanings.get(schema)?.name ?? '',
  );
  assert.deepEqual(
    manifest.env.map(({ name }) => name).toSorted(),
    known.filter((name) => !placesOnly.has(name)).toSorted(),
  );
});

test('the manifest describes a setting that can be set as docs/settings.md does', () => {
  const helpOf = new Map(
    Object.values(settingsSchema.shape).map((schema) => {
      const { name, help } = settingMeanings.get(schema) ?? assert.fail('a setting has no name');
      return [name, help] as const;
    }),
  );
  for (const { name, description, settable } of manifest.env) {
    if (settable !== null) assert.equal(description, helpOf.get(name), name);
  }
});
