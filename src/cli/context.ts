import type { Settings } from '../config/settings.ts';
import type { Stamp } from '../model/stamp.ts';
import type { Store } from './store.ts';

/** The context of every command. */
export interface CliContext {
  readonly out: (text: string) => void;
  /** Reports the progress of a command that takes time, a line at a time, on standard error. */
  readonly progress: (line: string) => void;
  readonly readInput: () => Promise<string>;
  /** Reads the settings from environment and file; throws `config/…`. */
  readonly settings: () => Settings;
  /** Opens the datastore of the settings for one use. */
  readonly withStore: <T>(use: (store: Store) => Promise<T>) => Promise<T>;
  readonly stamp: Stamp;
  /** Sets an exit status other than 0. */
  readonly setStatus: (status: number) => void;
}
