import type { Settings } from '../config/settings.ts';
import type { Stamp } from '../model/stamp.ts';
import type { Store } from './store.ts';

/** What every command may use. */
export interface CliContext {
  readonly out: (text: string) => void;
  readonly readInput: () => Promise<string>;
  /** Settings from environment and file; throws `config/…`. */
  readonly settings: () => Settings;
  /** Opens the datastore that the settings name for one use. */
  readonly withStore: <T>(use: (store: Store) => Promise<T>) => Promise<T>;
  readonly stamp: Stamp;
  /** The exit status, if it is not to be 0. */
  readonly setStatus: (status: number) => void;
}
