import { openSqliteStore } from '../../src/datastore/sqlite-store.ts';
import { rootPrefix } from '../../src/model/kinds/index.ts';
import { listAll } from '../../src/datastore/datastore.ts';

/** Prints what the file holds, as JSON `[key, value]…`: SQLite opens no file of another root, so this runs there. */
const store = await openSqliteStore(process.argv[2] ?? '');
const { items } = await listAll(store, rootPrefix, AbortSignal.timeout(10_000));
console.log(JSON.stringify(items.map(({ key, value }) => [key, value])));
await store.close();
