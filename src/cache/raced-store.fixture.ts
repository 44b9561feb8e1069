import type { Datastore } from '../datastore/datastore.ts';

/** An action that runs once, between the reads of the next transaction and its commit. */
export interface Race {
  beforeCommit: (() => Promise<unknown>) | undefined;
}

/** Returns a datastore that runs the action of `race` before the next commit. */
export function raced(store: Datastore, race: Race): Datastore {
  const commit: Datastore['commit'] = async (...args) => {
    const { beforeCommit } = race;
    race.beforeCommit = undefined;
    await beforeCommit?.();
    return store.commit(...args);
  };
  return {
    endpoint: store.endpoint,
    read: (...args) => store.read(...args),
    pages: (...args) => store.pages(...args),
    commit,
    watch: (...args) => store.watch(...args),
    close: () => store.close(),
  };
}
