import type { EntryKind } from '../model/kinds/index.ts';
import type { Draft } from './writer.ts';

/**
 * For a plan that removes one user of a shared object and keeps the object because of others: the commit holds only if
 * one of them is unchanged. Listing them is not enough, because it does not notice a removal: two hosts that remove the
 * last two users at the same time would both keep the object. Each expects the user after its own, so that a removal
 * fails one other commit and not all.
 */
export function expectUser(
  draft: Pick<Draft, 'expect'>,
  kind: EntryKind,
  { own, users }: { readonly own: string; readonly users: readonly string[] },
): void {
  const sorted = users.toSorted();
  const next = sorted.find((id) => id > own) ?? sorted[0];
  if (next !== undefined) draft.expect(kind, next);
}
