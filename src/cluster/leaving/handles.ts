import type { Block } from '../../model/kinds/block.ts';
import type { Handle } from '../../model/kinds/handle.ts';

/** Returns the handles that belong to blocks: the number of addresses that each has in each block. */
export function handlesOf(blocks: readonly Block[]): ReadonlyMap<string, Handle> {
  const counts = new Map<string, Record<string, number>>();
  for (const { cidr, allocations, attributes } of blocks) {
    for (const index of allocations) {
      const id = index === null ? undefined : attributes?.[index]?.handle_id;
      if (id === undefined) continue;
      const count = counts.get(id) ?? {};
      counts.set(id, count);
      count[cidr] = (count[cidr] ?? 0) + 1;
    }
  }
  return new Map([...counts].map(([id, block]) => [id, { block, deleted: false }]));
}
