import type { CommitResult, Datastore, Transaction } from '../datastore/datastore.ts';
import type { EntryKind } from '../model/kinds/index.ts';
import type { Base } from './mirror.ts';
import { MustRead, requestGroup } from './view.ts';

/** A view without a cache: everything is read on request, by key or by prefix. */
export class UncachedView implements Base {
  readonly datastore: Datastore;
  readonly revision = undefined;
  readonly isWhole = true;

  constructor(datastore: Datastore) {
    this.datastore = datastore;
  }

  get(kind: EntryKind, id: string): never {
    throw new MustRead({ kind, id });
  }

  list(kind: EntryKind, idPrefix = ''): never {
    throw new MustRead({ kind, idPrefix });
  }

  brief(kind: EntryKind, id: string): never {
    throw new MustRead({ kind, id });
  }

  briefs(kind: EntryKind): never {
    throw new MustRead({ kind, idPrefix: '' });
  }

  group(kind: EntryKind, group: string): never {
    throw new MustRead(requestGroup(kind, group));
  }

  unreadable(kind: EntryKind, id: string): never {
    throw new MustRead({ kind, id });
  }

  allUnreadable(kind: EntryKind): never {
    throw new MustRead({ kind, idPrefix: '' });
  }

  commit(transaction: Transaction, signal: AbortSignal): Promise<CommitResult> {
    return this.datastore.commit(transaction, signal);
  }

  whole(): Promise<void> {
    return Promise.resolve();
  }
}
