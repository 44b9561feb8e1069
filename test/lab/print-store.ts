import { openSqliteStore } from '../../src/datastore/sqlite-store.ts';
import { rootPrefix } from '../../src/model/kinds/index.ts';
import { listAll } from '../../src/datastore/datastore.ts';

/** Prints the entries of the file as JSON `[key, value]…`. Runs in the root of the file, because SQLite opens no other. */
const store = await openSqliteStore(process.argv[2] ?? '');
const { items } = await listAll(store, rootPrefix, AbortSignal.timeout(120_000));
console.log(JSON.stringify(items.map(({ key, value }) => [key, value])));
await store.close();
