import { existsSync } from 'node:fs';
import type { Settings } from '../config/settings.ts';
import type { ClusterFile } from './cluster-file.ts';
import { fileMark } from './moving/file-mark.ts';

/** A command for the cluster of this host that has not ended. */
export interface Interruption {
  /** `cluster init`. */
  readonly command: string;
  /** How far it has got. */
  readonly reached: string;
  /** What to type, as a clause. */
  readonly remedy: string;
}

/** What the host has stored of the command. */
export interface InterruptionFacts {
  readonly file: ClusterFile;
  /** The data of this host is in the cluster. */
  readonly isMoved: boolean;
  /** The datastore of its own is complete. */
  readonly hasOwnDatastore: boolean;
}

/** Returns the command that was interrupted on this host, or that runs; `undefined` without one. Pure. */
export function interruptionOf(facts: InterruptionFacts): Interruption | undefined {
  const { file, isMoved, hasOwnDatastore } = facts;
  const again = (command: string) => `run it again to finish it: calico-cnm ${command}`;
  switch (file.state) {
    case 'initializing':
    case 'joining': {
      const isInit = file.state === 'initializing';
      const typed = isInit ? 'cluster init' : 'cluster join MEMBER:2381 TOKEN';
      const undo = isMoved
        ? 'if the members of the cluster are lost for good: calico-cnm cluster leave --force'
        : 'to undo it: calico-cnm cluster leave';
      return {
        command: isInit ? 'cluster init' : 'cluster join',
        reached: isMoved ? 'the data of this host is in the cluster' : 'no data was moved',
        remedy: `${again(typed)}, or ${undo}`,
      };
    }
    case 'leaving': {
      const isAlone = file.step === 'alone' && !hasOwnDatastore;
      return {
        command: 'cluster leave',
        reached: isAlone
          ? 'this host is still one of its cluster'
          : 'this host is no longer one of its cluster',
        remedy: again(isAlone ? 'cluster leave --force' : 'cluster leave'),
      };
    }
    case 'joined':
      break;
  }
  if (file.restoring !== undefined) {
    return {
      command: 'cluster restore',
      reached: 'its etcd may be stopped',
      remedy: again(`cluster restore ${file.restoring}`),
    };
  }
  if (file.step !== 'announced') return undefined;
  return {
    command: 'cluster leave',
    reached: 'the members know that this host leaves',
    remedy: again('cluster leave'),
  };
}

/** As `interruptionOf`, of a host. */
export function interruption(
  { datastoreFile }: Pick<Settings, 'datastoreFile'>,
  file: ClusterFile,
): Interruption | undefined {
  return interruptionOf({
    file,
    isMoved: file.state !== 'joined' && fileMark(datastoreFile)?.state === 'moved',
    hasOwnDatastore: existsSync(datastoreFile),
  });
}

/** Returns a clause as a sentence. */
export function sentenceOf(clause: string): string {
  return `${clause.charAt(0).toUpperCase()}${clause.slice(1)}.`;
}
