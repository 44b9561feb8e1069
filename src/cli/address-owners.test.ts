import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after } from 'node:test';
import { openSqliteStore } from '../datastore/sqlite-store.ts';
import { ownersContract } from './address-owners.fixture.ts';

const folders: string[] = [];

ownersContract({
  open: () => openSqliteStore(join(folders.at(-1) ?? '', 'calico.db')),
  empty: async () => {
    folders.push(await mkdtemp(join(tmpdir(), 'calico-owners-')));
  },
  runs: 15,
});

after(async () => {
  for (const folder of folders) await rm(folder, { recursive: true });
});
