import { appendFile, readFile, writeFile } from 'node:fs/promises';
import { z } from 'zod';

/**
 * Changes since the last snapshot, in a file next to it. A snapshot is saved at most once a second; a daemon that is
 * killed in between and finds the datastore unavailable when it starts again would treat newer endpoints as removed.
 * Lines are appended as changes occur, without fsync: they survive the end of the process, and after a crash of the
 * host no container runs that needs them.
 */

/** The key and its text; null: it was removed. */
const line = z.tuple([z.string(), z.string().nullable()]);

/**
 * Returns the changes since the snapshot saved at that time; none if the file is missing or belongs to another
 * snapshot.
 */
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
    // An incomplete line: the daemon or the host crashed while writing. Nothing after it is known.
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

/** Writes the changes since the last snapshot. */
export class SnapshotChanges {
  readonly #file: string;
  #since: string | undefined;
  /** Lines since the last `begin`; `undefined`: some are missing. */
  #lines: string[] | undefined = [];
  #writing: Promise<void> = Promise.resolve();

  constructor(snapshotFile: string) {
    this.#file = fileOf(snapshotFile);
  }

  /** Appends texts by key (null: it was removed) that the present snapshot does not have. */
  note(changes: ReadonlyMap<string, string | null>): void {
    const lines = [...changes].map((change) => `${JSON.stringify(change)}\n`);
    this.#lines?.push(...lines);
    if (this.#since === undefined) return;
    this.#write(() => appendFile(this.#file, lines.join('')));
  }

  /** Stops until the next snapshot that begins after this: later changes are useless if one is missing. */
  stop(): void {
    this.#since = undefined;
    this.#lines = undefined;
  }

  /** A snapshot of the current state begins: later changes are those since this snapshot. */
  begin(): void {
    this.#lines = [];
  }

  /** The snapshot has replaced the previous one. */
  saved(savedAt: string): void {
    if (this.#lines === undefined) return;
    this.#since = savedAt;
    const text = `${savedAt}\n${this.#lines.join('')}`;
    this.#write(() => writeFile(this.#file, text, { mode: 0o600 }));
  }

  /** Resolves when all changes are written. */
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
