import type { Datastore } from '../datastore/datastore.ts';

/** What happens once, between what the next transaction rests on and its commit. */
export interface Race {
  beforeCommit: (() => Promise<unknown>) | undefined;
}

/** A store whose next commit comes too late. */
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
