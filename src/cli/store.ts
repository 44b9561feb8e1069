import { GroupWriter } from '../cache/group-writer.ts';
import { UncachedView } from '../cache/uncached-view.ts';
import { GroupDraft } from '../cache/group-draft.ts';
import type { View, ReadRequest } from '../cache/view.ts';
import { openDatastore, type DatastoreOptions } from '../datastore/open-datastore.ts';
import { writeAll, type Progress } from '../datastore/steps.ts';
import type { Draft } from '../datastore/writer.ts';

/** The datastore as one command sees it: what it shows or writes is read, by key or by prefix, and nothing else. */
export interface Store {
  /** What a look at the datastore comes to; it is run again as what it reads arrives. */
  readonly look: <Result>(look: (view: View) => Result) => Promise<Result>;
  /** What a plan may read of the datastore besides its draft. */
  readonly view: View;
  /** Reads together what a plan is known to read, which else would be read one after the other. */
  readonly readAhead: (requests: readonly ReadRequest[]) => Promise<void>;
  /** Carries out a plan; resolves when its changes are durable. */
  readonly write: <Result>(plan: (draft: Draft) => Result) => Promise<Result>;
  /** Carries out a plan until it says that it is done. */
  readonly writeAll: (plan: (draft: Draft) => Progress) => Promise<void>;
  /** What a plan would answer, or throw; nothing is written. */
  readonly rehearse: <Result>(plan: (draft: Draft) => Result) => Promise<Result>;
}

/** All that one command does in the datastore is done by then; one that reads all of a large kind takes its time. */
const longestMs = 120_000;

/** Opens the datastore and closes it after use; throws `datastore/…`. */
export async function withStore<T>(
  options: DatastoreOptions,
  use: (store: Store) => Promise<T>,
): Promise<T> {
  const datastore = await openDatastore(options);
  const signal = AbortSignal.timeout(longestMs);
  try {
    const writer = new GroupWriter(new UncachedView(datastore));
    const { view } = writer;
    return await use({
      view,
      look: (look) => view.look(() => look(view), signal),
      readAhead: (requests) => view.read(requests, signal),
      write: async (plan) => (await writer.write(plan, signal)).result,
      writeAll: (plan) => writeAll(writer, plan, signal),
      rehearse: (plan) => view.look(() => plan(new GroupDraft(view)), signal),
    });
  } finally {
    await datastore.close();
  }
}
