import { appendFile, readFile, writeFile } from 'node:fs/promises';
import { z } from 'zod';

/**
 * What changed since a snapshot was saved, in a file beside it: a snapshot is saved once a second at most, and a
 * daemon that is killed meanwhile, and finds the datastore away when it is back, would take endpoints that are newer
 * for gone. Lines are appended as changes come, and not synced: they are there after the end of the process, and after
 * that of the machine nothing runs that they matter for.
 */

/** The key and its text; null: it is gone. */
const line = z.tuple([z.string(), z.string().nullable()]);

/** What changed since the snapshot that was saved at that time; nothing if the file is another's, or missing. */
export async function readChanges(
  snapshotFile: string,
  savedAt: string,
): Promise<ReadonlyMap<string, string | null>> {
  const changes = new Map<string, string | null>();
  const text = await readFile(fileOf(snapshotFile), 'utf8').catch(() => '');
  const [since, ...lines] = text.split('\n');
  if (since !== savedAt) return changes;
  for (const one of lines) {
    const change = lineFrom(one);
    // It was being written, or was lost with the machine; nothing after it is known.
    if (change === undefined) break;
    changes.set(...change);
  }
  return changes;
}

function lineFrom(text: string): z.infer<typeof line> | undefined {
  try {
    return line.parse(JSON.parse(text));
  } catch {
    return undefined;
  }
}

/** Writes them. */
export class SnapshotChanges {
  readonly #file: string;
  #since: string | undefined;
  /** Lines since the last `begin`. */
  #lines: string[] = [];
  #writing: Promise<void> = Promise.resolve();

  constructor(snapshotFile: string) {
    this.#file = fileOf(snapshotFile);
  }

  /** Texts by key (null: it is gone) that the next snapshot will have, and the present one has not. */
  note(changes: ReadonlyMap<string, string | null>): void {
    const lines = [...changes].map((change) => `${JSON.stringify(change)}\n`);
    this.#lines.push(...lines);
    if (this.#since === undefined) return;
    this.#write(() => appendFile(this.#file, lines.join('')));
  }

  /** What comes is of no use without what is not noted; until the next snapshot there are no changes. */
  stop(): void {
    this.#since = undefined;
  }

  /** A snapshot is being made of what is there now: from now on changes are those since this one. */
  begin(): void {
    this.#lines = [];
  }

  /** The snapshot has taken the place of the one before. */
  saved(savedAt: string): void {
    this.#since = savedAt;
    const text = `${savedAt}\n${this.#lines.join('')}`;
    this.#write(() => writeFile(this.#file, text, { mode: 0o600 }));
  }

  /** Resolves when all has been written. */
  written(): Promise<void> {
    return this.#writing;
  }

  #write(act: () => Promise<void>): void {
    this.#writing = this.#writing.then(act).catch(() => this.stop());
  }
}

function fileOf(snapshotFile: string): string {
  return `${snapshotFile}.changes`;
}
