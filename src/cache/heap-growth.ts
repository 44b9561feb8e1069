import { getHeapStatistics, setFlagsFromString } from 'node:v8';

/** The daemon is started with it: its heap grows by a tenth between collections, which suits a small, steady heap. */
const growsSlowly = '--optimize-for-size';
const isSmall = process.execArgv.includes(growsSlowly);

/**
 * Lets the heap grow faster while it fills, and slowly again afterwards: a listing of a large datastore would otherwise
 * take about half of its time, and its longest pauses, for collections that free nothing. Call it again from time to time
 * while it fills, because what is fast depends on its size. No-op in a process that was not started to stay small.
 */
export function growHeap(isFilling: boolean): void {
  // V8 reads both at each collection.
  if (!isSmall) return;
  setFlagsFromString(`--heap-growing-percent=${isFilling ? growthPercent() : 0}`);
  setFlagsFromString(isFilling ? '--no-optimize-for-size' : growsSlowly);
}

/**
 * A small heap may multiply, a large one must not leave much of its memory unused: it is not collected again soon after
 * the listing. V8 begins to mark after about a third of the growth.
 */
const [growthBytes, leastPercent, mostPercent] = [30 << 20, 20, 200];

function growthPercent(): number {
  const percent = Math.round((100 * growthBytes) / getHeapStatistics().used_heap_size);
  return Math.min(Math.max(percent, leastPercent), mostPercent);
}
