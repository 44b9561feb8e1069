import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openDatastore } from '../../datastore/open-datastore.ts';
import { resourceRoot } from '../../model/resource-type.ts';
import { startCommandLine, type CommandLine } from '../command-line.fixture.ts';
import { live, resourceLives } from './resource-lives.fixture.ts';

async function stored(cli: CommandLine, key: string): Promise<string> {
  const datastore = await openDatastore({ kind: 'sqlite', file: `${cli.folder}/calico.db` });
  const { items } = await datastore.read([resourceRoot + key], AbortSignal.timeout(9000));
  await datastore.close();
  return items[0]?.value ?? assert.fail(`nothing is stored at ${key}`);
}

for (const life of resourceLives) {
  test(`${life.kind} is created, shown, applied again and deleted, stored as Calico's client does`, async () => {
    using cli = startCommandLine();
    await live(life, {
      ok: (argv, input) => cli.ok(argv, input),
      stored: (key) => stored(cli, key),
    });
  });
}
