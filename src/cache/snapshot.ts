import { open } from 'node:fs/promises';
import { z } from 'zod';
import { saveOnChange } from '../async/save-on-change.ts';
import { replaceFile } from '../async/replace-file.ts';
import type { Work } from '../async/supervise.ts';
import type { Datastore, KnownCluster } from '../datastore/datastore.ts';
import { describe, hasErrorCode } from '../errors/error.ts';
import { entryKinds, entryTypeOf, type EntryKind } from '../model/kinds/index.ts';
import { encodeBrief } from './cache-scope.ts';
import type { BriefChange, EntryChange, Mirror } from './mirror.ts';
import { readChanges, SnapshotChanges } from './snapshot-changes.ts';

/**
 * The last state of the datastore on this host's disk, for a start while the datastore is unavailable: running
 * containers keep their policy. It is read-only; nothing is ever written to the datastore from it.
 */
export interface Snapshot {
  /** When it was saved. */
  readonly savedAt: Date;
  readonly entries: readonly (readonly [key: string, text: string])[];
}

const snapshotFormat = 1;

const head = z.object({
  format: z.literal(snapshotFormat),
  endpoint: z.string(),
  /** The cluster that the snapshot is of. Earlier versions did not save it. */
  cluster: z.string().optional(),
  /** The revision that the cluster had reached. Earlier versions did not save it. */
  reached: z.string().regex(/^\d+$/).transform(BigInt).optional(),
  savedAt: z.iso.datetime().transform((text) => new Date(text)),
});

const entry = z.tuple([z.string(), z.string()]);

/** The texts before and after the entries in the file; each entry is a line. */
const [beforeEntries, afterEntries] = [',"entries":[', ']}'];

/**
 * Reads the snapshot of a datastore; `undefined` if it is missing, belongs to another cluster, or cannot be read,
 * which is reported to `warn`. The endpoints do not matter: members are added, replaced and moved. While none of them
 * has responded, the cluster is unknown, and the last state of this host is used.
 */
export async function readSnapshot(
  file: string,
  datastore: Pick<Datastore, 'cluster' | 'endpoint'>,
  warn: (text: string) => void = () => undefined,
): Promise<Snapshot | undefined> {
  try {
    const snapshot = await readLines(file);
    if (!isOf(datastore, snapshot)) return undefined;
    const changes = await readChanges(file, snapshot.savedAt.toISOString());
    const entries = new Map<string, string | null>([...snapshot.entries, ...changes]);
    return { ...snapshot, entries: [...entries].flatMap(presentOf) };
  } catch (error) {
    if (!hasErrorCode(error, 'ENOENT'))
      warn(`ignoring damaged snapshot ${file} (${describe(error)})`);
    return undefined;
  }
}

/** Returns the cluster that a snapshot is of; `undefined` without a snapshot or an ID. */
export async function snapshotCluster(file: string): Promise<KnownCluster | undefined> {
  try {
    await using handle = await open(file);
    for await (const line of handle.readLines()) {
      const { cluster, reached = 0n } = parseHead(line);
      return cluster === undefined ? undefined : { cluster, reached };
    }
  } catch {
    // Whoever reads all of it reports what is wrong.
  }
  return undefined;
}

function parseHead(line: string): z.infer<typeof head> {
  if (!line.endsWith(beforeEntries)) throw new Error('not a snapshot');
  return head.parse(JSON.parse(`${line.slice(0, -beforeEntries.length)}}`));
}

function isOf(
  { cluster, endpoint }: Pick<Datastore, 'cluster' | 'endpoint'>,
  saved: z.infer<typeof head>,
): boolean {
  if (saved.cluster === undefined) return saved.endpoint === endpoint;
  return cluster === undefined || cluster === saved.cluster;
}

function presentOf([key, text]: readonly [string, string | null]): Snapshot['entries'] {
  return text === null ? [] : [[key, text]];
}

/**
 * Reads line by line so that a large file does not block the event loop. Throws an error that says what is wrong with
 * the file.
 */
async function readLines(file: string): Promise<Snapshot & z.infer<typeof head>> {
  let found: z.infer<typeof head> | undefined;
  const entries: z.infer<typeof entry>[] = [];
  let last = '';
  // A file that cannot be opened fails here, not as an event without a listener.
  await using handle = await open(file);
  for await (const line of handle.readLines()) {
    last = line;
    if (found === undefined) {
      found = parseHead(line);
    } else if (line !== afterEntries && line !== '') {
      entries.push(entry.parse(JSON.parse(line.replace(/,$/, ''))));
    }
  }
  if (found === undefined || last !== afterEntries) throw new Error('truncated');
  return { ...found, entries };
}

const usualSettleMs = 1000;

/**
 * Saves the mirror's state whenever it has changed, until the signal is aborted, and then once more if there are
 * changes. Nothing is written while nothing changes. A failed save is reported and retried.
 */
export async function keepSnapshot(
  options: {
    readonly mirror: Mirror;
    readonly file: string;
    readonly work: Work;
    /** Reports whether the datastore may be unavailable when the daemon starts; without it, nothing is saved. */
    readonly isNeeded?: () => boolean;
    /** Delay between a change and the save, in which more changes are collected; in milliseconds. */
    readonly settleMs?: number;
  },
  signal: AbortSignal,
): Promise<void> {
  const { mirror, file, work, isNeeded = () => true, settleMs = usualSettleMs } = options;
  const since = new SnapshotChanges(file);
  let unreadable: ReadonlyMap<string, string> = new Map();
  try {
    await saveOnChange(
      {
        // When restarted after a failure it may have missed a change. The first save is immediate: without a snapshot
        // there is nothing to append changes to.
        isChanged: mirror.revision > 0n,
        settleMs,
        subscribe: (changed) =>
          mirror.subscribe(({ changes, briefs, isLive }) => {
            if (!isLive || !isNeeded()) return;
            // Values that cannot be read are not reported as changes.
            const [before, now] = [unreadable, unreadableTexts(mirror)];
            unreadable = now;
            const texts = [...now].filter(([key, text]) => before.get(key) !== text);
            const gone = [...before.keys()].filter((key) => !now.has(key));
            if (changes.length + briefs.length + texts.length + gone.length === 0) return;
            // The slices of a listing are too many, and useless one by one.
            if (mirror.isWhole) {
              const removed = gone.map((key) => [key, null] as const);
              const changed = textsOf(mirror, [...changes, ...briefs]);
              since.note(new Map([...removed, ...changed, ...texts]));
            } else since.stop();
            changed();
          }),
        save: async (stopped) => {
          if (isNeeded()) await saveSnapshot({ mirror, file, since }, stopped);
        },
        work,
      },
      signal,
    );
  } finally {
    await since.written();
  }
}

/** Replaces the file atomically; only its owner can read it. */
async function saveSnapshot(
  {
    mirror,
    file,
    since,
  }: { readonly mirror: Mirror; readonly file: string; readonly since: SnapshotChanges },
  signal: AbortSignal,
): Promise<void> {
  if (!mirror.isWhole) {
    // A partial listing would be worse than the previous snapshot.
    if (signal.aborted) return;
    await mirror.whole(signal);
  }
  // All values of one revision; they are immutable, so they can be encoded in slices.
  const unreadable = [...unreadableTexts(mirror)];
  const all = [
    ...entryKinds.flatMap((kind) => savedOf(mirror, kind)),
    linesOf(unreadable, (one) => one),
  ];
  since.begin();
  const savedAt = new Date().toISOString();
  await replaceFile(file, { mode: 0o600, folderMode: 0o700 }, async (target) => {
    const saved = {
      format: snapshotFormat,
      endpoint: mirror.datastore.endpoint,
      cluster: mirror.datastore.cluster,
      reached: mirror.datastore.reached?.toString(),
      savedAt,
    };
    await target.write(`${JSON.stringify(saved).slice(0, -1)}${beforeEntries}`);
    let isFirst = true;
    for (const { count, lines } of all) {
      for (let from = 0; from < count; from += pieceSize) {
        await target.write(`${isFirst ? '' : ','}\n${lines(from, pieceSize)}`);
        isFirst = false;
      }
    }
    await target.write(`\n${afterEntries}\n`);
  });
  since.saved(savedAt);
}

/** Maximum number of entries that are encoded without a pause. */
const pieceSize = 100;

/** Entries in the form of the file. */
interface SavedEntries {
  readonly count: number;
  /** Returns a slice of the entries as lines. */
  readonly lines: (from: number, count: number) => string;
}

function savedOf<K extends EntryKind>(mirror: Mirror, kind: K): readonly SavedEntries[] {
  const { key, encode } = entryTypeOf[kind];
  const encodeInBrief = encodeBrief[kind];
  return [
    linesOf([...mirror.cached(kind).values()], ({ id, value }) => [key(id), encode(value)]),
    linesOf([...mirror.cachedInBrief(kind).values()], ({ id, value }) => [
      key(id),
      encodeInBrief?.(id, value),
    ]),
  ];
}

function linesOf<T>(
  entries: readonly T[],
  encode: (one: T) => readonly [key: string, text: string | undefined],
): SavedEntries {
  return {
    count: entries.length,
    lines: (from, count) =>
      entries
        .slice(from, from + count)
        .map((one) => JSON.stringify(encode(one)))
        .join(',\n'),
  };
}

/** Returns the current texts of changed entries, by key; null: it was removed. */
function textsOf(
  mirror: Mirror,
  changes: readonly (EntryChange | BriefChange)[],
): ReadonlyMap<string, string | null> {
  return new Map(
    changes.map(({ kind, id }) => [entryTypeOf[kind].key(id), textOf(mirror, kind, id) ?? null]),
  );
}

/**
 * Returns the texts that cannot be read, by key. They are saved like all others: a policy that is invalid denies what it
 * selects, which it must also do after a boot without the datastore.
 */
function unreadableTexts(mirror: Mirror): ReadonlyMap<string, string> {
  return new Map([...mirror.unreadableValues()].map(([key, { text }]) => [key, text]));
}

function textOf<K extends EntryKind>(mirror: Mirror, kind: K, id: string): string | undefined {
  const whole = mirror.cached(kind).get(id);
  if (whole !== undefined) return entryTypeOf[kind].encode(whole.value);
  const brief = mirror.cachedInBrief(kind).get(id);
  return brief && encodeBrief[kind]?.(id, brief.value);
}
