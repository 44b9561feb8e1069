import { rmSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { readIfPresent, replaceFile, replaceFileSync } from '../async/replace-file.ts';
import { describe } from '../errors/error.ts';
import { address } from '../model/fields.ts';
import { DomainIndex } from '../model/domain-pattern.ts';
import { longestSeconds, type ResolvedName } from '../names/domain-addresses.ts';
import type { Logger } from '../telemetry/log.ts';

const fileFormat = z.object({
  format: z.literal(1),
  names: z.array(
    z.object({
      name: z.string(),
      addresses: z.array(
        z.object({
          address,
          /** Milliseconds since 1970; earlier than now: it has expired. */
          until: z.int(),
        }),
      ),
    }),
  ),
});

/** Many times what is kept at most. */
const mostBytes = 64 * 1024 * 1024;

/** How long a new address, and one that is valid for longer, may wait for the file, in milliseconds. */
const settleMs = { new: 1000, extended: 60_000 } as const;

interface Options {
  readonly file: string;
  readonly log: Pick<Logger, 'warn'>;
  /** Returns the names to keep. */
  readonly present: () => readonly ResolvedName[];
}

/**
 * Keeps the addresses of domain names in a file of this host, with the time until which they are valid: programs in
 * containers remember them when the daemon restarts.
 */
export class SavedDomainAddresses {
  readonly #options: Options;
  /** Read names that no network set has claimed yet. */
  #read: readonly ResolvedName[] = [];
  #saved: string | undefined;
  #dueAt = Infinity;
  #isSaving = false;
  #isStopped = false;

  constructor(options: Options) {
    this.#options = options;
  }

  /** Reads the file; a damaged one is ignored. */
  start(now: number): void {
    const { file, log } = this.#options;
    try {
      const { size = 0 } = statSync(file, { throwIfNoEntry: false }) ?? {};
      if (size > mostBytes) throw new Error(`it has ${size} bytes`);
      this.#saved = readIfPresent(file);
      if (this.#saved === undefined) return;
      // The clock may have been set back.
      const latest = now + longestSeconds * 1000;
      this.#read = fileFormat.parse(JSON.parse(this.#saved)).names.map(({ name, addresses }) => ({
        name,
        addresses: addresses.map((one) => ({ ...one, until: Math.min(one.until, latest) })),
      }));
    } catch (error) {
      log.warn(`cannot read addresses of domain names ${file} (${describe(error)})`);
      this.#saved = '';
    }
  }

  /** Returns the read names that match one of the domains, once. */
  take(domains: readonly string[]): readonly ResolvedName[] {
    if (this.#read.length === 0) return [];
    const index = new DomainIndex();
    index.set('', domains);
    const { taken = [], left = [] } = Object.groupBy(this.#read, ({ name }) =>
      index.ownersOf(name).length > 0 ? 'taken' : 'left',
    );
    this.#read = left;
    return taken;
  }

  /** Call when an address is new, is gone, or is valid for longer. */
  changed(what: keyof typeof settleMs, now: number): void {
    this.#dueAt = Math.min(this.#dueAt, now + settleMs[what]);
  }

  /** Saves if it is time. */
  poll(now: number): void {
    // The clock may have been set back.
    if (this.#dueAt !== Infinity) this.#dueAt = Math.min(this.#dueAt, now + settleMs.extended);
    if (now < this.#dueAt || this.#isSaving) return;
    void this.#save(now);
  }

  /** Saves what has not been saved; if the file is being written, afterwards. */
  stop(): void {
    this.#isStopped = true;
    if (this.#dueAt === Infinity || this.#isSaving) return;
    this.#dueAt = Infinity;
    const { file } = this.#options;
    try {
      const text = this.#text();
      if (text === undefined) rmSync(file, { force: true });
      else replaceFileSync(file, text, 0o600);
    } catch (error) {
      this.#failed(error);
    }
  }

  async #save(now: number): Promise<void> {
    const { file } = this.#options;
    this.#isSaving = true;
    this.#dueAt = Infinity;
    // The datastore has been read: for names that no network set has claimed there are no connections.
    this.#read = this.#read.flatMap(({ name, addresses }) => {
      const valid = addresses.filter(({ until }) => until > now);
      return valid.length === 0 ? [] : [{ name, addresses: valid }];
    });
    try {
      const text = this.#text();
      if (text === this.#saved) return;
      if (text === undefined) rmSync(file, { force: true });
      else {
        const modes = { mode: 0o600, folderMode: 0o700 };
        await replaceFile(file, modes, async (target) => {
          await target.write(text);
        });
      }
      this.#saved = text;
    } catch (error) {
      this.#failed(error);
      this.changed('extended', now);
    } finally {
      this.#isSaving = false;
      if (this.#isStopped) this.stop();
    }
  }

  #failed(error: unknown): void {
    const { file, log } = this.#options;
    log.warn(`cannot save addresses of domain names ${file} (${describe(error)})`);
  }

  #text(): string | undefined {
    // Connections to addresses that have expired continue after a restart as well.
    const names = [...this.#options.present(), ...this.#read];
    return names.length === 0 ? undefined : `${JSON.stringify({ format: 1, names })}\n`;
  }
}

/** Returns the path of the file, beside the snapshot of the datastore. */
export function domainAddressesFile({ snapshotFile }: { readonly snapshotFile: string }): string {
  return join(dirname(snapshotFile), 'domain-addresses.json');
}
