import { readFileSync, writeFileSync } from 'node:fs';
import { stripTypeScriptTypes } from 'node:module';
import { basename, join } from 'node:path';
import type { LabKind } from '../test/lab/network-lab.ts';

/** Common to the benchmarks: the lab kind from the command line, and the format of numbers. */

export function kindOf(engine = '20.10', backend = 'nft', datastore = 'sqlite'): LabKind {
  return {
    engine: engine === '28.5' ? '28.5' : '20.10',
    backend: backend === 'legacy' ? 'legacy' : 'nft',
    datastore: datastore === 'etcd' ? 'etcd' : 'sqlite',
  };
}

/** Returns the median; of an even number of values the upper one of the two in the middle. */
export function median(values: readonly number[]): number {
  return percentile(values, 0.5);
}

/** Returns the percentile: the value that a share of all values does not exceed. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}

/** Formats a Markdown table. */
export function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const lines = [header, header.map(() => '---'), ...rows];
  return lines.map((cells) => `| ${cells.join(' | ')} |\n`).join('');
}

/**
 * Writes a module without its types to a folder and returns the file. Node.js would load a compiler for the types, which
 * takes 20 MB in the measured process.
 */
export function withoutTypes(file: string, folder: string): string {
  const stripped = join(folder, basename(file).replace(/\.ts$/, '.mjs'));
  writeFileSync(stripped, stripTypeScriptTypes(readFileSync(file, 'utf8')));
  return stripped;
}
