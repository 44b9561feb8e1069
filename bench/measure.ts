import type { LabKind } from '../test/lab/network-lab.ts';

/** What the benchmarks share: the lab from the command line, and how numbers are shown. */

export function kindOf(engine = '20.10', backend = 'nft', datastore = 'sqlite'): LabKind {
  return {
    engine: engine === '28.5' ? '28.5' : '20.10',
    backend: backend === 'legacy' ? 'legacy' : 'nft',
    datastore: datastore === 'etcd' ? 'etcd' : 'sqlite',
  };
}

/** The middle value; of an even number the upper of the two. */
export function median(values: readonly number[]): number {
  return percentile(values, 0.5);
}

/** The value below which a share of all lies. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}

/** A table for people and for Markdown. */
export function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const lines = [header, header.map(() => '---'), ...rows];
  return lines.map((cells) => `| ${cells.join(' | ')} |\n`).join('');
}
