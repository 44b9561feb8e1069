import { GroupWriter } from '../cache/group-writer.ts';
import { UncachedView } from '../cache/uncached-view.ts';
import { GroupDraft } from '../cache/group-draft.ts';
import type { View, ReadRequest } from '../cache/view.ts';
import { openPatiently, type DatastoreOptions } from '../datastore/open-datastore.ts';
import { writeAll, type Progress } from '../datastore/steps.ts';
import type { Draft } from '../datastore/writer.ts';

/** The datastore for one command. Only the keys and prefixes that the command needs are read. */
export interface Store {
  /** Evaluates a read-only function, again whenever data that it reads arrives. */
  readonly look: <Result>(look: (view: View) => Result) => Promise<Result>;
  /** The view that a plan may read in addition to its draft. */
  readonly view: View;
  /** Reads in one request what a plan would otherwise read in several. */
  readonly readAhead: (requests: readonly ReadRequest[]) => Promise<void>;
  /** Runs a plan; resolves when its changes are durable. */
  readonly write: <Result>(plan: (draft: Draft) => Result) => Promise<Result>;
  /** Runs a plan repeatedly until it returns `done`. */
  readonly writeAll: (plan: (draft: Draft) => Progress) => Promise<void>;
  /** Runs a plan without writing; returns its result or throws its error. */
  readonly rehearse: <Result>(plan: (draft: Draft) => Result) => Promise<Result>;
}

/** Timeout for all datastore operations of one command; reading all resources of a large kind takes time. */
const longestMs = 120_000;

/** Opens the datastore and closes it after use; throws `datastore/…`. */
export async function withStore<T>(
  options: DatastoreOptions,
  use: (store: Store) => Promise<T>,
): Promise<T> {
  const datastore = await openPatiently(options);
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
