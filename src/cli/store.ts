import { GroupWriter } from '../cache/group-writer.ts';
import { LiveMirror } from '../cache/live-mirror.ts';
import { openDatastore, type DatastoreOptions } from '../datastore/open-datastore.ts';
import { RoundDraft } from '../cache/round-draft.ts';
import { writeAll, type Progress } from '../datastore/steps.ts';
import type { Draft } from '../datastore/writer.ts';

/** The datastore as one command sees it. */
export interface Store {
  readonly mirror: LiveMirror;
  /** Carries out a plan; resolves when its changes are durable. */
  readonly write: <Result>(plan: (draft: Draft) => Result) => Promise<Result>;
  /** Carries out a plan until it says that it is done. */
  readonly writeAll: (plan: (draft: Draft) => Progress) => Promise<void>;
  /** What a plan would answer, or throw; nothing is written. */
  readonly rehearse: <Result>(plan: (draft: Draft) => Result) => Result;
}

const readMs = 5000;
const writeMs = 15_000;

/** Opens the datastore, reads it, and closes it after use; throws `datastore/…`. */
export async function withStore<T>(
  options: DatastoreOptions,
  use: (store: Store) => Promise<T>,
): Promise<T> {
  const datastore = await openDatastore(options);
  const mirror = new LiveMirror(datastore);
  const stop = new AbortController();
  const running = mirror.run(stop.signal);
  try {
    try {
      await mirror.reached(0n, AbortSignal.timeout(readMs));
    } catch (error) {
      throw mirror.whyNotInSync(error);
    }
    const writer = new GroupWriter(mirror);
    return await use({
      mirror,
      write: async (plan) => (await writer.write(plan, AbortSignal.timeout(writeMs))).result,
      writeAll: (plan) => writeAll(writer, plan, AbortSignal.timeout(writeMs)),
      rehearse: (plan) => plan(new RoundDraft(mirror)),
    });
  } finally {
    stop.abort();
    await datastore.close();
    await running;
  }
}
