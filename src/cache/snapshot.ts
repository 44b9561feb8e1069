import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { pause } from '../async/deadline.ts';
import { replaceFile } from '../async/replace-file.ts';
import type { Work } from '../async/supervise.ts';
import { describe } from '../errors/error.ts';
import { entryKinds, entryTypeOf, type EntryKind } from '../model/kinds/index.ts';
import type { Mirror } from './mirror.ts';

/**
 * The last state of the datastore on this host's disk, for a start while the datastore is away: what runs keeps
 * its policy. It is for reading only; nothing is ever written to the datastore from it.
 */
export interface Snapshot {
  /** When it was saved. */
  readonly savedAt: Date;
  readonly entries: readonly (readonly [key: string, text: string])[];
}

const snapshotFormat = 1;

const stored = z.object({
  format: z.literal(snapshotFormat),
  /** Of which datastore it is; another one's is of no use. */
  endpoint: z.string(),
  savedAt: z.iso.datetime().transform((text) => new Date(text)),
  entries: z.array(z.tuple([z.string(), z.string()])),
});

/**
 * The snapshot of a datastore; `undefined` if there is none, it is of another datastore, or it cannot be read, of
 * which `warn` is told.
 */
export async function readSnapshot(
  file: string,
  endpoint: string,
  warn: (text: string) => void = () => undefined,
): Promise<Snapshot | undefined> {
  try {
    const snapshot = stored.parse(JSON.parse(await readFile(file, 'utf8')));
    return snapshot.endpoint === endpoint ? snapshot : undefined;
  } catch (error) {
    const isMissing = error instanceof Error && 'code' in error && error.code === 'ENOENT';
    if (!isMissing) warn(`snapshot ${file} cannot be used: it is damaged (${describe(error)})`);
    return undefined;
  }
}

/** Changes are collected for so long before they are saved, in milliseconds. */
const settleMs = 1000;

/** Saving takes at most this share of the time. */
const mostShare = 0.02;

/**
 * Saves the mirror's state whenever it has changed, until the signal is aborted, and then once more if need be.
 * Nothing is written while nothing changes. A save that fails is told and tried again.
 */
export async function keepSnapshot(
  options: {
    readonly mirror: Mirror;
    readonly file: string;
    readonly work: Work;
  },
  signal: AbortSignal,
): Promise<void> {
  const { mirror, file, work } = options;
  // Begun again after a failure, it may have missed a change.
  let isChanged = mirror.revision > 0n;
  let wake = (): void => undefined;
  const unsubscribe = mirror.subscribe(({ changes, isLive }) => {
    if (!isLive || changes.length === 0) return;
    isChanged = true;
    wake();
  });
  const onAbort = () => wake();
  signal.addEventListener('abort', onAbort);
  let settleFor = settleMs;
  try {
    while (!signal.aborted || isChanged) {
      if (!isChanged) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
        continue;
      }
      await pause(settleFor, signal);
      isChanged = false;
      const started = performance.now();
      try {
        await saveSnapshot(mirror, file);
        work.succeeded();
      } catch (error) {
        work.failed(error);
        // At the end there is no second try.
        isChanged = !signal.aborted;
      }
      settleFor = Math.max(settleMs, (performance.now() - started) / mostShare);
    }
  } finally {
    signal.removeEventListener('abort', onAbort);
    unsubscribe();
  }
}

/** Readable by its owner alone, and the whole file or the one before. */
async function saveSnapshot(mirror: Mirror, file: string): Promise<void> {
  // All values of one moment; they never change, so turning them into text may take its time.
  const entries = entryKinds.flatMap((kind) => encoders(mirror, kind));
  await replaceFile(file, { mode: 0o600, folderMode: 0o700 }, async (target) => {
    const head = {
      format: snapshotFormat,
      endpoint: mirror.datastore.endpoint,
      savedAt: new Date().toISOString(),
    };
    await target.write(`${JSON.stringify(head).slice(0, -1)},"entries":[`);
    for (let from = 0; from < entries.length; from += pieceSize) {
      const piece = entries.slice(from, from + pieceSize).map((encode) => encode());
      await target.write(`${from === 0 ? '' : ','}\n${piece.join(',\n')}`);
    }
    await target.write('\n]}\n');
  });
}

/** Entries that are turned into text without a pause. */
const pieceSize = 500;

function encoders<K extends EntryKind>(mirror: Mirror, kind: K): readonly (() => string)[] {
  const { key, encode } = entryTypeOf[kind];
  return [...mirror.list(kind).values()].map(
    ({ id, value }) =>
      () =>
        JSON.stringify([key(id), encode(value)]),
  );
}
